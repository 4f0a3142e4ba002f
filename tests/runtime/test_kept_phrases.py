"""Phrases of one start that the next one reads from disk: only those that would be spoken the same again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from call_parts import Voice
from tests.damage import WAYS, damage

from antiphon import disk_cache
from antiphon.errors import ProviderError
from antiphon.runtime.phrases import KEPT, PhraseBook
from antiphon.runtime.ports import Sound

BOTH = ("en-IN", "hi-IN")


class Constant(Voice):
    """A voice whose sound never changes."""

    def __init__(self, version: str = "1", *, fails_at: str = "") -> None:
        super().__init__(self._say, "constant")
        self.sound_version = version
        self._fails_at = fails_at

    async def _say(self, text: str) -> AsyncGenerator[Sound, None]:
        if text == self._fails_at:
            raise ProviderError("not this one")
        yield Sound(text.encode().ljust(40))


def texts(language: str, kind: str) -> Sequence[str]:
    return {"filler": ("one", "two")}.get(kind, (f"{kind} {language}",))


def prepared(folder: Path, *voices: Voice, languages: Sequence[str] = BOTH, voice: str = "") -> PhraseBook:
    book = PhraseBook(texts)
    missing = asyncio.run(book.prepare(voices, languages, ("filler", "apology"), lambda _: voice, folder))
    assert missing == 0
    return book


def said(book: PhraseBook) -> list[tuple[str, bytes]]:
    places = (("filler", 0), ("filler", 1), ("apology", 0))
    return [book.clip(kind, tag, number, "pcm16") for tag in ("en-IN", "hi-IN") for kind, number in places]


def test_the_next_start_asks_the_voice_for_nothing_and_says_the_same(tmp_path: Path) -> None:
    first, second = Constant(), Constant()
    before = said(prepared(tmp_path, first))
    assert len(first.asked) == 6
    assert said(prepared(tmp_path, second)) == before
    assert second.asked == []


def test_what_would_sound_otherwise_is_spoken_again(tmp_path: Path) -> None:
    prepared(tmp_path, Constant())
    other, named, fewer = Constant("2"), Constant(), Constant()
    prepared(tmp_path, other)
    prepared(tmp_path, named, voice="another")
    prepared(tmp_path, fewer, languages=("en-IN",))
    assert [len(each.asked) for each in (other, named, fewer)] == [6, 6, 3]


@pytest.mark.parametrize("promise", [None, "", 3, lambda: "a method is none"])
def test_a_voice_that_promises_nothing_is_asked_each_time(tmp_path: Path, promise: object) -> None:
    for _ in range(2):
        voice = Voice(Constant()._say)
        voice.sound_version = promise  # type: ignore[attr-defined]
        prepared(tmp_path, voice)
        assert len(voice.asked) == 6
    assert not list(tmp_path.iterdir())


def test_what_another_voice_stood_in_for_is_not_kept(tmp_path: Path) -> None:
    prepared(tmp_path, Constant(fails_at="two"), Voice(Constant()._say))
    assert not list(tmp_path.iterdir())
    again = Constant()
    prepared(tmp_path, again)
    assert len(again.asked) == 6


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_spoken_again_and_replaced(tmp_path: Path, way: str) -> None:
    before = said(prepared(tmp_path, Constant()))
    [path] = tmp_path.iterdir()
    damage(path, way)
    voice = Constant()
    assert said(prepared(tmp_path, voice)) == before
    assert len(voice.asked) == 6
    if way != "unreadable":  # nothing can be written in its place, either
        after = Constant()
        prepared(tmp_path, after)
        assert after.asked == []


@pytest.mark.parametrize("content", [b"", b"\x00" * 500, b"\xc1" * 100, b"\x91\xc4\x00", b"\x91\xc4\x03abc"])
def test_what_was_not_kept_by_these_rules_is_spoken_again(tmp_path: Path, content: bytes) -> None:
    prepared(tmp_path, Constant())
    [path] = tmp_path.iterdir()
    path.unlink()
    name = f"{path.stem.rpartition('-')[0]}{path.suffix}"
    assert disk_cache.store(name, content, kept=KEPT, folder=tmp_path)
    voice = Constant()
    prepared(tmp_path, voice)
    assert len(voice.asked) == 6


def test_a_disk_that_takes_nothing_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    prepared(tmp_path / "file" / "below", Constant())


def test_sets_that_nobody_uses_any_more_go(tmp_path: Path) -> None:
    for number in range(KEPT + 2):
        prepared(tmp_path, Constant(str(number)))
    assert len(list(tmp_path.iterdir())) == KEPT
