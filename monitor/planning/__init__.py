"""How much memory a model takes on GPUs, how many requests fit, and what a running server leaves unused."""
