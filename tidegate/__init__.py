"""Tidegate's shared language: what people write, the rules, the edges and the clients."""
