"""gpumon: monitor, alert on and probe a GPU node that serves models with vLLM."""

__version__ = "0.1.0"
