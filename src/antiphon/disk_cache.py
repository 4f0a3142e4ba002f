"""Files that only save work: made again where they are absent, and never a reason to fail.

In ``$XDG_CACHE_HOME/antiphon`` (``~/.cache/antiphon``), else in the system's temporary folder, else nowhere. A file's
name ends in a hash of all that went into it, so that nothing in it can be out of date. Blocking.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)


def folders() -> list[Path]:
    """Where files may be kept, the best place first."""
    found = []
    base = os.environ.get("XDG_CACHE_HOME", "")
    with contextlib.suppress(RuntimeError):  # no home directory
        found.append((Path(base) if base else Path.home() / ".cache") / "antiphon")
    owner = str(os.getuid()) if hasattr(os, "getuid") else "user"
    found.append(Path(tempfile.gettempdir()) / f"antiphon-{owner}")
    return found


def found(name: str, folder: Path | None = None) -> Iterator[Path]:
    """The files of this name, the best place first; only in ``folder`` if it is given."""
    for place in [folder] if folder else folders():
        if _is_ours(place) and (place / name).is_file():
            yield place / name


def used(path: Path) -> None:
    """Tells that a file was of use: the oldest by use is the first to go."""
    with contextlib.suppress(OSError):
        os.utime(path)


def store(name: str, data: bytes, *, kept: int, folder: Path | None = None) -> None:
    """Keeps a file, and the ``kept`` youngest of its kind: those whose names begin as far as its first ``-``."""
    for place in [folder] if folder else folders():
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(place):
                continue
            _write(place / name, data)
            _prune(place, f"{name.partition('-')[0]}-*", kept)
        except OSError as error:
            log.info("%s: %s is not kept: %s", place, name, error)
            continue
        return


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: another process may read or write the same file."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _prune(place: Path, pattern: str, kept: int) -> None:
    with contextlib.suppress(OSError):  # another process prunes as well; what is too much goes the next time
        files = sorted(place.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[kept:]:
            path.unlink(missing_ok=True)


def _is_ours(place: Path) -> bool:
    """Not a folder that somebody else made in a place open to all."""
    try:
        return not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()
    except OSError:
        return False
