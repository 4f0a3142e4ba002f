"""Whether each service did its part in a call, from the journal of the orchestrator."""

from __future__ import annotations

from pathlib import Path

from antiphon.kernel.events import IntentReady, PassagesReady, SegmentSynthesized, StageFailed, TranscriptFinal
from antiphon.providers.service_wire import PLACES, Stage
from antiphon.stores.choice import open_journal

_WORK: dict[Stage, type] = {
    "stt": TranscriptFinal,
    "intent": IntentReady,
    "retrieval": PassagesReady,
    "tts": SegmentSynthesized,
}
"""What a service's work becomes in the journal, under the name of who did it."""


async def verdict(place: Path, call: str) -> list[str]:
    """What is amiss, in words; nothing if all four services worked. Raises ``StoreError``."""
    journal = open_journal(str(place), access="read")
    try:
        await journal.start()
        events = [entry.event for entry in await journal.read(call)]
    finally:
        await journal.close()
    amiss = []
    for stage, kind in _WORK.items():
        if not any(isinstance(event, kind) and getattr(event, "provider", "") == "http" for event in events):
            codes = {event.code for event in events if isinstance(event, StageFailed) and event.stage == stage}
            amiss.append(f"{PLACES[stage].title} had no part in it" + "".join(f" ({code})" for code in sorted(codes)))
    return amiss
