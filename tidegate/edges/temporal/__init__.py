"""Temporal: the truth about intent. What people and loops ask of the workflows."""

from tidegate.edges.temporal.control_plane import ControlPlane, connect

__all__ = ["ControlPlane", "connect"]
