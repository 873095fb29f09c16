"""Temporal workflows: orchestration only, deterministic, without I/O."""
