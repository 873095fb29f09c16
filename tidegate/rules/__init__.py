"""The rules: pure functions of their arguments, with the clock and the salts passed in."""
