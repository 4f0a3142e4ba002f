"""Files that only save work: made again where they are absent, and never a reason to fail.

In ``$XDG_CACHE_HOME/antiphon`` (``~/.cache/antiphon``), else in the system's temporary folder, else nowhere. A name
ends in a hash of all that went into the file, so that nothing in it can be out of date. On disk a digest of the content
follows: damage is noticed before use, and a library that opens files by path meets its own format. Blocking.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
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


def found(name: str, folder: Path | None = None) -> Path | None:
    """The file stored under this name, whole, from the best place; only from ``folder`` if it is given.

    It counts as used now: the oldest by use is the first to go. A damaged one is told and removed.
    """
    for place in [folder] if folder else folders():
        if not _is_ours(place):
            continue
        for path in place.glob(_named(name, "*")):
            try:
                if path.name == _named(name, _digest(path.read_bytes())):
                    os.utime(path)
                    return path
            except FileNotFoundError:  # another process prunes
                continue
            except OSError as error:
                log.warning("%s is unusable, it is made again: %s", path, error)
            else:
                log.warning("%s is damaged, it is made again", path)
            with contextlib.suppress(OSError):
                path.unlink()
    return None


def store(name: str, data: bytes, *, kept: int, folder: Path | None = None) -> Path | None:
    """Keeps a file, and the ``kept`` youngest of its kind: those whose names begin as far as its first ``-``.

    Where it is now, ``None`` if no place takes it.
    """
    for place in [folder] if folder else folders():
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_ours(place):
                continue
            path = place / _named(name, _digest(data))
            _write(path, data)
            _prune(place, f"{name.partition('-')[0]}-*", kept)
        except OSError as error:
            log.info("%s: %s is not kept: %s", place, name, error)
            continue
        return path
    return None


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _named(name: str, digest: str) -> str:
    stem, dot, suffix = name.partition(".")
    return f"{stem}-{digest}{dot}{suffix}"


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
        files = sorted(filter(Path.is_file, place.glob(pattern)), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in files[kept:]:
            path.unlink(missing_ok=True)


def _is_ours(place: Path) -> bool:
    """Not a folder that somebody else made in a place open to all."""
    try:
        return not hasattr(os, "getuid") or place.stat().st_uid == os.getuid()
    except OSError:
        return False
