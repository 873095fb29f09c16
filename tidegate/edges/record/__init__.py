"""The record: what happened, kept for years. Nobody reads it to decide what is true now."""

from tidegate.edges.record.forecasts import Forecast
from tidegate.edges.record.record import Gap, MeanDemand, Record
from tidegate.edges.record.waitlists import LaneMark
from tidegate.edges.record.writes import Added, Mark

__all__ = ["Added", "Forecast", "Gap", "LaneMark", "Mark", "MeanDemand", "Record"]
