"""An NVIDIA driver that is not there: a libnvidia-ml.so.1 of our own whose readings and faults a test sets."""
