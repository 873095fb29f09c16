"""What a laptop lacks: Temporal's dev server, Redis, local inference pools, an NVML stand-in."""
