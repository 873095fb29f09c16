"""Side-by-side measurements and the replay of real traces against the sizing rules."""
