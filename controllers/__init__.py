"""The loops that never end: each is a tick(now), each a process of its own."""
