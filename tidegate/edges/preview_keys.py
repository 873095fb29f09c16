"""Keys of previews: one file each, so that ending a preview destroys what it was written under."""

import hmac
import os
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from tidegate.errors import Refused

_SUFFIX: Final = ".preview-key"


class PreviewKeys:
    """Makes, finds and destroys keys in a folder, which nobody copies and no backup takes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, preview: str) -> None:
        """Make a preview's key; one that is there stays as it is."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(self._path(preview), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(handle, "wb") as file:
            file.write(Fernet.generate_key())

    def destroy(self, preview: str) -> None:
        """Destroy a preview's key, overwritten before it is dropped; one that is gone stays so."""
        path = self._path(preview)
        try:
            with path.open("r+b") as file:
                file.write(bytes(path.stat().st_size))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
        except FileNotFoundError:
            return

    def seal(self, preview: str, text: str) -> str:
        """Encrypt a text under a preview's key (Fernet); raises Refused where there is none."""
        if (key := self._key(preview)) is None:
            raise self._no_key(preview)
        return Fernet(key).encrypt(text.encode()).decode()

    def mark(self, preview: str, text: str) -> str:
        """Name a text (HMAC-SHA-256 under the key): the same text alike, and nothing told of it.

        Raises Refused where there is no key.
        """
        if (key := self._key(preview)) is None:
            raise self._no_key(preview)
        return hmac.digest(key, text.encode(), "sha256").hex()

    def _no_key(self, preview: str) -> Refused:
        message = (
            f'preview "{preview}": {self._folder} has no key of it. '
            "Apply it first, or ask where its keys are (TIDEGATE_PREVIEWS)."
        )
        return Refused(message, code="no-preview-key")

    def open(self, preview: str, sealed: str) -> str | None:
        """Decrypt a text; None where the key is gone, or another sealed it."""
        key = self._key(preview)
        try:
            return None if key is None else Fernet(key).decrypt(sealed).decode()
        except InvalidToken:
            return None

    def _key(self, preview: str) -> bytes | None:
        """Return the key; None where there is none, or none that could be one."""
        try:
            key = self._path(preview).read_bytes()
            Fernet(key)
        except (FileNotFoundError, ValueError):
            return None
        return key

    def _path(self, preview: str) -> Path:
        return self._folder / f"{preview}{_SUFFIX}"
