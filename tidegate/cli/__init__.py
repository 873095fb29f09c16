"""The command line: what a product manager and an operator type."""
