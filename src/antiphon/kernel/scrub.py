"""Text that no encoding can keep, made harmless before it becomes part of a journal."""

from __future__ import annotations

import msgspec

from antiphon.kernel.events import AnyEvent

_encoder = msgspec.msgpack.Encoder()


def clean(event: AnyEvent) -> AnyEvent:
    """The event with lone surrogates replaced, which no encoding can keep: JSON of careless providers has them."""
    try:
        _encoder.encode(event)
    except UnicodeEncodeError:
        scrubbed: AnyEvent = msgspec.convert(_scrubbed(msgspec.to_builtins(event)), AnyEvent)
        return scrubbed
    return event


def _scrubbed(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(item) for key, item in value.items()}
    return value
