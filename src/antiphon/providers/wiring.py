"""What one part's settings mean for another: the recogniser expects the questions that the knowledge base answers, and
may not hear every language that is offered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from antiphon.knowledge import load_knowledge, speech_sentences
from antiphon.runtime.ports import Transcriber


def transcriber_settings(
    name: str, settings: Mapping[str, object], retrieval: Mapping[str, object]
) -> dict[str, object]:
    """The transcriber's settings, with the knowledge base's sentences where it can use them and has none of its own.

    ``retrieval`` are the retriever's settings, whose ``knowledge`` names the file ("" is the demo). An
    offline recogniser with a general language model mishears most of a caller's words. Raises
    ``ConfigError`` for a knowledge base that cannot be read.
    """
    if name != "pocketsphinx" or settings.get("phrases") or settings.get("phrases_file"):
        return dict(settings)
    place = retrieval.get("knowledge")
    return {**settings, "phrases": speech_sentences(load_knowledge(str(place) if place else None))}


def unheard(transcribers: Sequence[Transcriber], offered: Iterable[str]) -> tuple[str, ...]:
    """The offered BCP 47 tags whose speech none of them recognises, as they say themselves (``Transcriber``)."""
    heard = [getattr(each, "hears", None) for each in transcribers]
    if None in heard or not heard:
        return ()
    return tuple(tag for tag in offered if not any(tag.partition("-")[0].lower() in each for each in heard if each))
