"""Temporal workflows: orchestration only, deterministic, no I/O; each file reads as its story."""
