"""The terminal interface. Its screens are a function of one frozen snapshot a tick."""
