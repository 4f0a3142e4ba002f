"""Which ear a line gets: one for sound, or one that takes words, too (``CallStart.words``)."""

from __future__ import annotations

from collections.abc import Callable

from antiphon.kernel.events import AnyEvent
from antiphon.runtime.listen import Ear, Listener
from antiphon.runtime.ports import CallStart, Line
from antiphon.runtime.services import Services
from antiphon.runtime.speech import Mouth
from antiphon.runtime.words import WordsEar


def make_ear(
    services: Services,
    start: CallStart,
    line: Line,
    mouth: Mouth,
    *,
    language: str,
    first_utterance: int,
    post: Callable[[AnyEvent], None],
    ahead: bool = False,
) -> Listener:
    """``mouth``: the call's own, for what the microphone hears of it. ``ahead``: its policy answers ahead."""

    def sound(language: str, first_utterance: int) -> Listener:
        if services.ear is not None:
            return services.ear(line, language, first_utterance, post)
        if services.activity is None:
            raise RuntimeError("an ear needs a voice activity detector")
        return Ear(
            call_id=start.call_id,
            codec=line.codec,
            sample_rate=line.sample_rate,
            language=language,
            first_utterance=first_utterance,
            activity=services.activity,
            transcriber=services.stages.transcriber,
            gate=services.media.gate,
            post=post,
            identify=services.identify,
            played=mouth.played,
            ahead=ahead,
        )

    if not start.words:
        return sound(language, first_utterance)
    return WordsEar(
        language=language, first_utterance=first_utterance, post=post, sound=sound, identify=services.identify
    )
