"""PromQL with the semantics of Prometheus 3: parse, plan, evaluate."""
