"""A day of real demand against a pool of engines: who sizes it best, beside an oracle."""
