"""A stand-in for NVIDIA's management library, so that the real binding runs without a GPU."""
