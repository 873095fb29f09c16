"""Keys of previews: made once, and gone when they are destroyed."""

from pathlib import Path

from tidegate.edges.preview_keys import PreviewKeys


def test_a_key_is_made_once_and_opens_what_it_sealed_and_nothing_else(tmp_path: Path) -> None:
    keys = PreviewKeys(tmp_path / "keys")
    keys.make("one")
    sealed = keys.seal("one", "a secret")
    keys.make("one")
    keys.make("two")
    assert keys.open("one", sealed) == "a secret"
    assert keys.open("two", sealed) is None
    assert keys.mark("one", "a secret") == keys.mark("one", "a secret")
    assert keys.mark("one", "a secret") != keys.mark("two", "a secret")
    assert (tmp_path / "keys" / "one.preview-key").stat().st_mode & 0o077 == 0
    keys.destroy("one")
    keys.destroy("one")
    assert keys.open("one", sealed) is None
