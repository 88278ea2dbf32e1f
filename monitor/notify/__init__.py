"""From a state change to a message that arrived: routes, an outbox that survives, and the child that sends."""
