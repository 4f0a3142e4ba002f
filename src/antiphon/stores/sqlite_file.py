"""The journal's SQLite file: its schema, how it is opened, and what its errors mean.

Format facts are from sqlite.org: file format, section 1.3 (``user_version``, ``application_id``); "Result and
Error Codes" (the low byte of an extended code is the primary one); "Write-Ahead Logging", section 7
(read-only WAL databases).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from antiphon.errors import StoreError

Synchronous = Literal["full", "normal", "off"]

APPLICATION_ID: Final = 0x416E7470
"""``Antp``: marks the file as ours, so that another program's database is never migrated."""

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE sessions (
      id INTEGER PRIMARY KEY,
      session TEXT NOT NULL UNIQUE,
      epoch INTEGER NOT NULL,
      owner TEXT NOT NULL,
      line TEXT NOT NULL,
      claimed_at TEXT NOT NULL,
      started_at TEXT NOT NULL,
      transport TEXT NOT NULL,
      language TEXT NOT NULL,
      caller TEXT NOT NULL,
      turns INTEGER NOT NULL,
      last_seq INTEGER NOT NULL,
      last_at_ms INTEGER NOT NULL
    );
    CREATE TABLE entries (
      id INTEGER NOT NULL REFERENCES sessions (id),
      seq INTEGER NOT NULL,
      data BLOB NOT NULL,
      PRIMARY KEY (id, seq)
    ) WITHOUT ROWID;
    CREATE TABLE snapshots (
      id INTEGER PRIMARY KEY REFERENCES sessions (id),
      seq INTEGER NOT NULL,
      data BLOB NOT NULL
    );
    """,
)
"""``MIGRATIONS[n]`` brings a file from schema ``n`` to ``n + 1``. Released ones are never changed, only followed."""

WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_LOW_SPACE_BYTES: Final = 1024 * 1024


def open_for_writing(
    path: Path, synchronous: Synchronous, busy_s: float, migrations: Sequence[str] = MIGRATIONS
) -> sqlite3.Connection:
    """Opens or creates the journal and brings its schema up to date. Raises ``StoreError``."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Conversations are personal: a new file is the owner's alone, and SQLite gives -wal and -shm the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise _no_file(error, path) from error
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(path, timeout=busy_s, isolation_level=None, cached_statements=64)
        mode = db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
        if mode != "wal":
            raise StoreError(
                f"{path} cannot be kept in WAL mode (SQLite says {mode!r}): put the journal on a local disk",
                code="store.no_wal",
            )
        db.execute(f"PRAGMA synchronous={synchronous}")
        db.execute("PRAGMA secure_delete=ON")  # what is deleted is gone from the file, too
        db.execute(f"PRAGMA journal_size_limit={WAL_LIMIT_BYTES}")
        _migrate(db, path, migrations)
    except sqlite3.Error as error:
        discard(db)
        raise explain(error, path) from error
    except StoreError:
        discard(db)
        raise
    return db


def open_for_reading(path: Path, busy_s: float, migrations: Sequence[str] = MIGRATIONS) -> sqlite3.Connection:
    """Opens an existing journal, also while a server writes it, and never changes it. Raises ``StoreError``."""
    wal = path.with_name(path.name + "-wal")
    try:
        path.stat()
        tail = wal.stat().st_size if wal.exists() else 0
    except FileNotFoundError:
        raise StoreError(
            f"there is no journal at {path}: start a server with `antiphon serve`, or give --journal PATH",
            code="store.not_found",
        ) from None
    except OSError as error:
        raise _unreadable(path, error.strerror or "") from error
    if path.is_dir():
        raise _is_folder(path)
    ways = ["?mode=ro"]
    if not tail:
        # On read-only media the -shm file cannot be made; without a WAL nothing can be missed by not having it.
        ways.append("?mode=ro&immutable=1")
    failure: StoreError | None = None
    for way in ways:
        db: sqlite3.Connection | None = None
        try:
            db = sqlite3.connect(path.absolute().as_uri() + way, uri=True, timeout=busy_s, isolation_level=None)
            version = _version(db, path)
        except sqlite3.Error as error:
            discard(db)
            failure = failure or _reading_failed(error, path)
            continue
        except StoreError:
            discard(db)
            raise
        if version == len(migrations):
            return db
        discard(db)
        if version > len(migrations):
            raise _newer(path, version, len(migrations))
        if not version:
            raise StoreError(
                f"the journal {path} is empty, nothing was ever written to it: start a server with "
                f"`antiphon serve --journal {path}`, or give another file with --journal PATH",
                code="store.empty",
            )
        raise StoreError(
            f"{path} has schema {version}, this program reads {len(migrations)}: "
            "run `antiphon serve` with it once, which brings it up to date",
            code="store.older_schema",
        )
    raise failure or StoreError(f"{path} cannot be opened")


def discard(db: sqlite3.Connection | None) -> None:
    """Closes a connection that may be broken; what it has to say about that no longer matters."""
    if db is not None:
        with contextlib.suppress(sqlite3.Error):
            db.close()


def _version(db: sqlite3.Connection, path: Path) -> int:
    """The file's schema; 0 for an empty file. Raises ``StoreError`` for somebody else's database."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    owner = int(db.execute("PRAGMA application_id").fetchone()[0])
    tables = int(db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if owner != APPLICATION_ID and (version or tables or owner):
        raise StoreError(
            f"{path} is another program's database: choose another file with --journal PATH or [journal] path",
            code="store.not_journal",
        )
    return version


def _migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    if _version(db, path) == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db, path)  # once more: another process may have migrated while we waited for the lock
        if version > len(migrations):
            raise _newer(path, version, len(migrations))
        for script in migrations[version:]:
            for statement in script.split(";"):
                if statement.strip():
                    db.execute(statement)
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute(f"PRAGMA user_version={len(migrations)}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _reading_failed(error: sqlite3.Error, path: Path) -> StoreError:
    coded = explain(error, path)
    return _unreadable(path, str(error)) if coded.code == "store.read_only" else coded


def _unreadable(path: Path, reason: str) -> StoreError:
    return StoreError(
        f"the journal {path} cannot be read: {reason}: give this user the right to read and write it, "
        f"or copy it together with {path.name}-wal to a folder of your own and give --journal",
        code="store.unreadable",
    )


def _newer(path: Path, version: int, known: int) -> StoreError:
    return StoreError(
        f"{path} was written by a newer Antiphon (schema {version}, this one knows {known}): "
        "run pip install --upgrade antiphon, or choose another file with --journal PATH",
        code="store.newer_schema",
    )


def _is_folder(path: Path) -> StoreError:
    """Names the journal in it, or else the file that would be one."""
    found = [*sorted(path.glob("*.sqlite")), path / "journal.sqlite"]
    return StoreError(
        f"{path} is a folder and a journal is a file: name the file, such as --journal {found[0]}",
        code="store.is_folder",
    )


def _no_file(error: OSError, path: Path) -> StoreError:
    if path.is_dir():
        return _is_folder(path)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return _read_only(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return _full(path)
    return StoreError(
        f"the journal {path} cannot be made: {error.strerror}: choose another place with [journal] path",
        code="store.no_file",
    )


def _read_only(path: Path) -> StoreError:
    return StoreError(
        f"the journal {path} cannot be written: make {path.parent} and the file writable for this user, "
        "or choose another place with [journal] path",
        code="store.read_only",
    )


def _full(path: Path) -> StoreError:
    return StoreError(
        f"no room to write the journal {path}: free space on that disk (or raise its quota); writing goes on by itself",
        code="store.full",
    )


def _out_of_room(path: Path) -> bool:
    """True if an I/O error is best explained by a full disk or by this process's file size limit."""
    try:
        space = os.statvfs(path.parent)
        if space.f_bavail * space.f_frsize < _LOW_SPACE_BYTES:
            return True
        sizes = [file.stat().st_size for file in path.parent.glob(path.name + "*")]
    except OSError:
        return False
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return False
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit != resource.RLIM_INFINITY and max(sizes, default=0) + _LOW_SPACE_BYTES > limit


def explain(error: sqlite3.Error, path: Path) -> StoreError:
    """The coded error for what SQLite said, with what to do about it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreError(
            f"the journal {path} is locked by another process: end the program that has it open for writing "
            f"(fuser {path} names it); writing goes on by itself",
            code="store.locked",
        )
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return _read_only(path)
    if code == sqlite3.SQLITE_CANTOPEN:
        return _full(path) if _out_of_room(path) else _read_only(path)
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _out_of_room(path)):
        return _full(path)
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(
            f"{path} is no journal ({error}): name another file with --journal PATH or [journal] path; "
            f"if it was one, it is damaged: move it away (mv {path} {path}.damaged) and start again",
            code="store.corrupt",
        )
    if code == sqlite3.SQLITE_CORRUPT:
        return StoreError(
            f"{path} is damaged ({error}): move it away (mv {path} {path}.damaged) and start again; "
            f"`sqlite3 {path}.damaged .recover` may save what it holds",
            code="store.corrupt",
        )
    return StoreError(f"the journal {path} failed: {error}", code="store.io")
