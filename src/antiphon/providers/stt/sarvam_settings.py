"""Settings of the ``sarvam`` transcriber."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from antiphon.providers.sarvam_wire import BASE_URL, WS_URL, heard_language
from antiphon.secret import Secret

Seconds = Annotated[float, Meta(gt=0, le=60)]
Term = Annotated[str, Meta(min_length=1, max_length=64)]
WHERE = "[stt] sarvam"

CHUNK_MS = 100
"""Audio is sent in such pieces: partials come every half second, and a message per frame would cost five times this."""


class SarvamTranscriberSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All of them have defaults; ``SARVAM_API_KEY`` is needed.

    ``language``: ``auto`` (the model tells, and tells how sure it is), ``hint`` (the one the call is in, nothing
    is detected then), or a tag such as ``te-IN`` for every call. ``stream_type``: ``fast`` partials or ``balanced``
    ones, which are later and better. ``keyterms``: at most 50, for ``saaras:v4`` only. Times in seconds:
    ``connect_s`` until a socket is ready, ``final_s`` for the final after an utterance, ``batch_s`` for all of the
    REST request that takes the socket's place. A conversation waits ``policy.final_ms``, then takes the last partial.
    """

    model: str = "saaras:v3-realtime"
    batch_model: str = "saaras:v4"
    mode: Literal["transcribe", "codemix", "verbatim", "translit", "translate"] = "transcribe"
    language: str = "auto"
    stream_type: Literal["fast", "balanced"] = "fast"
    prompt: Annotated[str, Meta(max_length=2000)] = ""
    keyterms: Annotated[tuple[Term, ...], Meta(max_length=50)] = ()
    api_key: Secret = Secret("")
    api_key_env: str = ""
    base_url: str = BASE_URL
    ws_url: str = WS_URL
    connect_s: Seconds = 2.0
    final_s: Seconds = 2.0
    batch_s: Seconds = 4.0
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 512

    def __post_init__(self) -> None:
        if self.language not in {"auto", "hint"} and not heard_language(self.language):
            raise ValueError(f"language {self.language!r} is not transcribed: use auto, hint or a tag such as hi-IN")
        if self.keyterms and self.model != "saaras:v4":
            raise ValueError(f'keyterms need model = "saaras:v4", not {self.model!r}')
