"""The requests' face: fast answers from a local snapshot, with no right to change intent."""
