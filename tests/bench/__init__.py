"""What gpumon weighs, beside its peers, in one run: `make bench`."""
