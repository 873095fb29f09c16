"""Where the Temporal UI shows a workflow."""

from collections.abc import Callable
from urllib.parse import quote

from tidegate.settings import Settings

WorkflowUrl = Callable[[str], str]
"""From a workflow's id to the page of its latest run."""


def workflow_urls(settings: Settings) -> WorkflowUrl:
    """Return how to link to a workflow of this installation."""
    namespace = quote(settings.namespace, safe="")
    base = f"{settings.temporal_ui.rstrip('/')}/namespaces/{namespace}/workflows"
    return lambda workflow_id: f"{base}/{quote(workflow_id, safe='')}"
