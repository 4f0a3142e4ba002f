"""Kits of checks for whoever writes a provider, a line or a store for Antiphon: one kit for each port.

::

    from antiphon.conformance import report, run, synthesizer

    results = run(synthesizer.KIT, MySynthesizer)
    print(report(results))
    assert all(result.passed for result in results)

The function given to ``run`` returns a new, unstarted provider each time. Nothing here needs a test framework.
"""

from __future__ import annotations

import functools
from typing import Any

from antiphon.conformance import (
    classifier,
    journal,
    line,
    responder,
    retriever,
    synthesizer,
    transcriber,
    voice_activity,
)
from antiphon.conformance.checks import (
    ConformanceError,
    Kit,
    Result,
    Sample,
    Subject,
    examine,
    name_of,
    obligation_of,
    report,
    run,
)
from antiphon.runtime.ports import Journal


def _of_journal(check: journal.Check) -> Any:
    """A journal's check takes the function that opens the store, and no sample."""

    @functools.wraps(check)
    async def wrapped(subject: Subject[Journal]) -> None:
        await check(subject.make)

    return wrapped


JOURNAL: Kit[Journal] = Kit("journal", tuple(map(_of_journal, journal.CHECKS)))
"""For one journal over one store. Each check wants an empty store, so give ``run`` a function that makes one."""

KITS: dict[str, Kit[Any]] = {
    kit.port: kit
    for kit in (
        transcriber.KIT,
        responder.KIT,
        synthesizer.KIT,
        classifier.KIT,
        retriever.KIT,
        line.KIT,
        voice_activity.KIT,
        JOURNAL,
    )
}
"""By port, with the names that the settings have for providers: stt, llm, tts, intent, retrieval."""

__all__ = [
    "JOURNAL",
    "KITS",
    "ConformanceError",
    "Kit",
    "Result",
    "Sample",
    "Subject",
    "classifier",
    "examine",
    "journal",
    "line",
    "name_of",
    "obligation_of",
    "report",
    "responder",
    "retriever",
    "run",
    "synthesizer",
    "transcriber",
    "voice_activity",
]
