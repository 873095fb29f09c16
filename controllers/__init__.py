"""The loops that never end: readings, capacity, gate, publishing, recording, and the worker."""
