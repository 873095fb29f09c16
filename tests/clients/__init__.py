"""Tests of `tidegate.clients`."""
