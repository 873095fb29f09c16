"""On a real control plane: what Tidegate reads there, writes there, and who leads."""
