"""What workflows may do to the world, named for the act."""
