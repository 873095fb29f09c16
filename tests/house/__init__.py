"""Tests of the house itself: sizes, settings, versions, Makefile."""
