"""The stand-in library, built once from its source and kept in a cache."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tidegate.readings import Absent

STATE_SETTING: Final = "TIDEGATE_NVML_STATE"
"""Names the folder whose files the library reads."""

_SOURCE: Final = Path(__file__).with_name("stand_in.c")
_SONAME: Final = "libnvidia-ml.so.1"
_FLAGS: Final = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", f"-Wl,-soname,{_SONAME}")
_BUILD_WITHIN_S: Final = 60.0


def build(cache_dir: Path) -> Path | Absent:
    """Return the library, compiled with `cc` unless `cache_dir` holds it already.

    Absent, with the reason, where there is no compiler or it fails.
    """
    recipe = _SOURCE.read_bytes() + " ".join(_FLAGS).encode()
    folder = cache_dir / "nvml" / hashlib.sha256(recipe).hexdigest()[:16]
    library = folder / _SONAME
    if library.exists():
        return library
    compiler = shutil.which("cc")
    if compiler is None:
        return Absent('no GPU, and no C compiler "cc" to build its stand-in (Debian package: gcc)')
    folder.mkdir(parents=True, exist_ok=True)
    # Whole or not there at all, also when two builds run at the same time.
    partial = folder / f"partial-{os.getpid()}"
    built = subprocess.run(
        [compiler, *_FLAGS, "-o", partial, _SOURCE],
        capture_output=True,
        text=True,
        timeout=_BUILD_WITHIN_S,
        check=False,
    )
    if built.returncode != 0:
        partial.unlink(missing_ok=True)
        return Absent(f"the stand-in for NVML did not compile: {built.stderr.strip()[-500:]}")
    partial.replace(library)
    return library
