"""What workflows may do to the world, each named for the act, each safe to do twice."""
