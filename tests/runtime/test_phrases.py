"""Prepared phrases: rendered at start by the first voice that can, a tone where none could."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import numpy as np
import pytest
from call_parts import Voice

from antiphon.errors import ProviderError
from antiphon.media.codec import decode
from antiphon.runtime.phrases import AT_ONCE, RENDER_TIMEOUT_S, TONE_HZ, PhraseBook
from antiphon.runtime.ports import Sound
from antiphon.sim.clock import run

LOUD = (1000).to_bytes(2, "little") * 80


async def speaks(text: str) -> AsyncGenerator[Sound, None]:
    for _ in text.split():
        yield Sound(LOUD)


async def fails(text: str) -> AsyncGenerator[Sound, None]:
    yield Sound(LOUD)
    raise ProviderError("the voice is gone")


async def hangs(text: str) -> AsyncGenerator[Sound, None]:
    await asyncio.sleep(10 * RENDER_TIMEOUT_S)
    yield Sound(LOUD)


async def raises(text: str) -> AsyncGenerator[Sound, None]:
    raise ZeroDivisionError
    yield Sound(b"")  # what makes this a generator


async def says_nothing(text: str) -> AsyncGenerator[Sound, None]:
    yield Sound(b"")


def texts(language: str, kind: str) -> Sequence[str]:
    return {"filler": ("one", "two words", "three of them")}.get(kind, (f"{kind} {language}",))


def test_variants_take_turns_and_every_codec_gets_its_own_audio() -> None:
    async def main() -> None:
        book = PhraseBook(texts)
        assert await book.prepare((Voice(speaks),), ("en-IN",), ("filler", "apology")) == 0
        said = [book.clip("filler", "en-IN", number, "pcm16") for number in range(7)]
        assert [text for text, _ in said] == ["one", "two words", "three of them"] * 2 + ["one"]
        assert [len(audio) // len(LOUD) for _, audio in said[:3]] == [1, 2, 3]
        mulaw = book.clip("filler", "en-IN", 1, "mulaw")[1]
        assert len(mulaw) * 2 == len(said[1][1])
        assert book.clip("filler", "en-IN", 4, "mulaw")[1] is mulaw, "encoded once"
        wide = book.clip("filler", "en-IN", 1, "pcm16", 48_000)[1]
        assert len(wide) == 12 * len(mulaw), "as long at another rate"

    run(main())


@pytest.mark.parametrize("broken", [fails, hangs, raises, says_nothing])
def test_the_next_voice_renders_what_the_first_could_not(broken: object) -> None:
    async def main() -> None:
        first, second = Voice(broken), Voice(speaks)  # type: ignore[arg-type]
        book = PhraseBook(texts)
        assert await book.prepare((first, second), ("en-IN",), ("apology",)) == 0
        assert second.asked == ["apology en-IN"]
        assert book.clip("apology", "en-IN", 0, "pcm16") == ("apology en-IN", LOUD * 2)

    run(main())


@pytest.mark.parametrize("broken", [fails, hangs, raises, says_nothing])
def test_a_tone_stands_for_what_no_voice_could_say(broken: object) -> None:
    async def main() -> None:
        book = PhraseBook(texts)
        assert await book.prepare((Voice(broken),), ("en-IN",), ("apology", "filler")) == 4  # type: ignore[arg-type]
        for kind, codec in (("apology", "pcm16"), ("filler", "mulaw"), ("never asked for", "alaw")):
            text, audio = book.clip(kind, "xx", 5, codec)
            pcm = np.frombuffer(decode(codec, audio), dtype="<i2").astype(float)
            assert text == "", "it is honest about being no speech"
            assert 0.5 < len(pcm) / 8000 < 1.0
            spectrum = np.abs(np.fft.rfft(pcm[:2000]))
            assert abs(np.argmax(spectrum) * 4 - TONE_HZ) <= 4
            assert np.abs(pcm).max() > 3000, "audible"

    run(main())


def test_a_variant_that_failed_is_left_out() -> None:
    async def picky(text: str) -> AsyncGenerator[Sound, None]:
        if text == "two words":
            raise ProviderError("too difficult")
        yield Sound(LOUD)

    async def main() -> None:
        book = PhraseBook(texts)
        assert await book.prepare((Voice(picky),), ("en-IN",), ("filler",)) == 1
        assert [book.clip("filler", "en-IN", n, "pcm16")[0] for n in range(4)] == ["one", "three of them"] * 2

    run(main())


class NamedVoice(Voice):
    """Writes down which voice it was asked for."""

    def __init__(self, speak: object) -> None:
        super().__init__(speak)  # type: ignore[arg-type]
        self.voices: list[str] = []

    def synthesize(self, text: str, *, language: str, sample_rate: int, voice: str = "") -> AsyncGenerator[Sound, None]:
        self.voices.append(voice)
        return super().synthesize(text, language=language, sample_rate=sample_rate, voice=voice)


def test_phrases_have_the_voice_of_the_answers_and_its_name_is_the_first_providers_own() -> None:
    async def main() -> None:
        first, second = NamedVoice(fails), NamedVoice(speaks)
        book = PhraseBook(texts)
        missing = await book.prepare(
            (first, second), ("en-IN", "te-IN"), ("apology",), lambda tag: {"te-IN": "anushka"}.get(tag, "")
        )
        assert missing == 0
        assert (first.voices, second.voices) == (["", "anushka"], ["", ""])

    run(main())


def test_several_phrases_are_rendered_at_once_and_not_all_of_them() -> None:
    async def main() -> None:
        under_way = most = 0

        async def slow(text: str) -> AsyncGenerator[Sound, None]:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.5)
            under_way -= 1
            yield Sound(LOUD)

        book = PhraseBook(texts)
        began = asyncio.get_running_loop().time()
        assert await book.prepare((Voice(slow),), ("en-IN", "hi-IN", "te-IN"), ("filler", "apology")) == 0
        took = asyncio.get_running_loop().time() - began
        assert most == AT_ONCE
        assert took == pytest.approx(0.5 * -(-3 * 4 // AT_ONCE))
        assert [book.clip("filler", "hi-IN", number, "pcm16")[0] for number in range(3)] == [
            "one",
            "two words",
            "three of them",
        ]

    run(main())
