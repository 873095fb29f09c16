"""Locust users and shapes: a launch day against a running gateway."""
