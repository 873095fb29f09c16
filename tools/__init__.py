"""What the Makefile calls to look after the house itself."""
