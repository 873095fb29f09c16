"""Tests of `tidegate`."""
