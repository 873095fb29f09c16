"""A plan against a demand trace, in skipped time and with simulated pools."""
