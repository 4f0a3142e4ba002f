"""The query of a WebSocket's address, read strictly: what is not understood is told, not passed over."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import parse_qsl

from antiphon.errors import PeerError

_MAX_FIELDS = 20


def read_fields(query: str, known: Collection[str], code: str) -> dict[str, str]:
    """The fields by name, blank ones too. Raises ``PeerError`` of that code for one not known, and for one twice."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:  # more fields than that, or bytes that are no UTF-8
        raise PeerError(f"the query cannot be read; it has {', '.join(known)}", code=code) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            raise PeerError(f"the query has no such field; it has {', '.join(known)}", code=code)
        if name in found:
            raise PeerError(f"{name} stands twice in the query", code=code)
        found[name] = value
    return found
