"""Deciding inside a service's own process, from the snapshot that the gateways follow."""
