"""What a refused request is told: one JSON shape for HTTP and for WebSocket upgrades.

``{"error": {"code": "...", "message": "..."}}``; codes are those of ``antiphon.errors`` and ``http.*``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

import msgspec

from antiphon.errors import (
    AdmissionRefused,
    AntiphonError,
    Forbidden,
    FrameTooLarge,
    NotAllowed,
    PeerError,
    StoreError,
    TooManyAttempts,
    UnknownSession,
)


class Refusal(msgspec.Struct, frozen=True):
    """An HTTP answer sent instead of going on. ``body`` is JSON of the shape above, with ``code`` in it.

    Raises ``ValueError`` if a header would break the response apart.
    """

    status: int
    body: str
    headers: dict[str, str] = {}
    code: str = ""

    def __post_init__(self) -> None:
        for part in (*self.headers, *self.headers.values()):
            if not part.isprintable():
                raise ValueError("a header of a refusal holds a control character")


def refuse(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Refusal:
    """A refusal of ``status`` that names its ``code``."""
    return Refusal(status, json.dumps({"error": {"code": code, "message": message}}), headers or {}, code)


def status_code_name(status: int) -> str:
    """The stable code of a bare HTTP status: 404 is ``http.not_found``."""
    if status == 422:  # its name differs between Python versions
        return "http.invalid"
    try:
        return f"http.{HTTPStatus(status).name.lower()}"
    except ValueError:
        return f"http.status_{status}"


def refusal_for(error: AntiphonError) -> Refusal:
    """What the peer is told of ``error``. The text of our own faults stays with us: it may name internals."""
    message = str(error.args[0]) if error.args else error.code
    match error:
        case TooManyAttempts():
            return refuse(429, error.code, message, {"retry-after": str(error.retry_after_s)})
        case Forbidden():
            return refuse(403, error.code, message)
        case NotAllowed():
            return refuse(401, error.code, message, {"www-authenticate": "Bearer"})
        case FrameTooLarge():
            return refuse(413, error.code, message)
        case PeerError():
            return refuse(400, error.code, message)
        case AdmissionRefused():
            return refuse(503, error.code, message, {"retry-after": str(error.retry_after_s)})
        case UnknownSession():
            return refuse(404, error.code, "no such session")
        case StoreError():
            return refuse(503, error.code, "the store does not answer", {"retry-after": "1"})
        case _:
            return refuse(500, error.code, "something went wrong on our side")


def as_bytes(refusal: Refusal, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The whole HTTP/1.1 response; the connection closes after it."""
    try:
        phrase = HTTPStatus(refusal.status).phrase
    except ValueError:
        phrase = ""
    body = refusal.body.encode()
    lines = [f"HTTP/1.1 {refusal.status} {phrase}".encode()]
    lines += [name + b": " + value for name, value in headers]
    lines += [f"{name}: {value}".encode("latin-1", "replace") for name, value in refusal.headers.items()]
    lines += [b"content-type: application/json", b"content-length: %d" % len(body), b"connection: close", b"", body]
    return b"\r\n".join(lines)
