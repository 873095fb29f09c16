"""The stories as files, each with what must hold at its end; their player; the demo."""
