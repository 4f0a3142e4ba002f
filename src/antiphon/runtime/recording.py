"""A whole recording at once, through the ports that were made for streams."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from antiphon.errors import ProviderError, ProviderRefused
from antiphon.media.segmenter import Segmenter, speakable
from antiphon.runtime.chain import BLAMELESS
from antiphon.runtime.ports import Heard, Synthesizer, Transcriber


async def hear(transcriber: Transcriber, pcm: bytes, sample_rate: int, language: str) -> Heard:
    """The final of one utterance, as fast as the transcriber can; it must be started. PCM at ``sample_rate`` Hz.

    Raises ``ProviderError`` with the transcriber's code where the utterance cannot be finished, ``ProviderRefused`` if
    it would be refused again (``stt.language``). Bound it by cancelling it.
    """
    done: asyncio.Future[Heard] = asyncio.get_running_loop().create_future()

    def on_heard(heard: Heard) -> None:
        if (heard.final or heard.error) and not done.done():
            done.set_result(heard)

    stream = transcriber.open(sample_rate=sample_rate, language=language, on_heard=on_heard)
    try:
        stream.feed(pcm)
        stream.finish(1)
        heard = await done
    finally:
        stream.close()
    if heard.error:
        raise _failed(heard.error, transcriber.name, language)
    return heard


def _failed(code: str, provider: str, language: str) -> ProviderError:
    reason = code.rpartition(".")[2]
    if reason not in BLAMELESS:
        return ProviderError("the recording could not be transcribed", provider=provider, stage="stt", code=code)
    text = f"{provider} does not hear {language}" if reason == "language" else f"{provider} refuses the recording"
    return ProviderRefused(f"{text}: configure another transcriber", provider=provider, stage="stt", code=code)


async def speak(synthesizer: Synthesizer, text: str, *, language: str, sample_rate: int, voice: str = "") -> bytes:
    """The whole of a text as PCM at ``sample_rate`` Hz, cut into the pieces that a call would speak.

    Raises ``ProviderError``. A text without anything to be spoken is no sound.
    """
    segmenter = Segmenter(language, first_clause=False)
    pcm = bytearray()
    for piece in map(speakable, [*segmenter.feed(text), *segmenter.flush()]):
        if piece:
            speech = synthesizer.synthesize(piece, language=language, sample_rate=sample_rate, voice=voice)
            async with aclosing(speech) as sounds:
                async for sound in sounds:
                    pcm += sound.pcm
    return bytes(pcm)
