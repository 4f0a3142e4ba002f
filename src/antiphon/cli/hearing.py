"""Who offers a language that the recogniser cannot hear leaves its callers without an answer: it is said in time."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from antiphon.config import Settings
from antiphon.providers import registry
from antiphon.providers.wiring import unheard
from antiphon.runtime.ports import Transcriber


class Deafness(msgspec.Struct, frozen=True):
    """Languages that are offered and cannot be heard; ``fix`` says what to configure instead."""

    providers: tuple[str, ...]
    languages: tuple[str, ...]
    fix: str

    def __str__(self) -> str:
        return (
            f"{' and '.join(self.providers)} cannot hear {', '.join(self.languages)}: "
            "callers who speak so are asked to repeat, then to use the keypad"
        )


def deafness(transcribers: Sequence[Transcriber], settings: Settings) -> Deafness | None:
    """None if everything that is offered can be heard, as far as the transcribers say."""
    offered = settings.languages.offered
    lost = unheard(transcribers, offered)
    if not lost:
        return None
    names = tuple(each.name for each in transcribers)
    others = [name for name in registry.names("stt") if name not in (*names, "fake")]
    another = (
        f"configure [stt] provider as one of {', '.join(others)}" if others else "configure another [stt] provider"
    )
    kept = [tag for tag in offered if tag not in lost]
    only = f", or offer less: [languages] offered = {msgspec.json.encode(kept).decode()}" if kept else ""
    return Deafness(names, lost, f"{another}{only}")
