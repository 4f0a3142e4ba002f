"""Media sockets read in C (``native.c``), where that was compiled: see ``antiphon.server.lane`` for who uses it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from antiphon.lane._native import Lane, Slot

__all__ = ["Lane", "Slot", "is_compiled", "open_lane"]


def is_compiled() -> bool:
    """Whether the extension is there: it is left out where the package was built without a C compiler."""
    try:
        import_module("antiphon.lane._native")
    except ImportError:
        return False
    return True


def open_lane(many: int = 0) -> Lane | None:
    """A lane of one's own; ``None`` where it was not compiled. From ``many`` sockets on, sinks get whole pieces.

    Raises ``OSError`` without a free file descriptor.
    """
    if not is_compiled():
        return None
    lane: Lane = import_module("antiphon.lane._native").Lane(many)
    return lane
