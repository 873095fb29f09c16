"""Files of manifests, on disk."""

from pathlib import Path

from tidegate.errors import PlanError
from tidegate.manifests import Manifests, parse_manifests


def load_manifests(path: Path, *, before: Manifests | None = None) -> Manifests:
    """Read a YAML file of manifests; as `parse_manifests`, and raises PlanError in the same way."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}). Check the path."
        raise PlanError(message, code="file") from error
    except UnicodeDecodeError as error:
        message = f"{path}: got bytes that are no text, expected UTF-8. Save it as UTF-8."
        raise PlanError(message, code="file") from error
    return parse_manifests(text, where=path.name, before=before)
