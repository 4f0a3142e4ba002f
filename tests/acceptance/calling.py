"""Calls placed by a test, and all that is known of each: the caller's side, the recording and the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hearing import Samples, channels
from served import Server

from antiphon.kernel.events import Entry, SessionClosed
from antiphon.observe.projections import conversation
from antiphon.observe.views import Conversation, TurnView
from antiphon.phone import CallReport, Manners, PhoneScript, Speakerphone, Step, TurnReport, place_call
from antiphon.phone.voices import Voices
from antiphon.providers import registry

FIRST = Manners(greeting_s=0)
"""The caller speaks first: for servers that do not greet."""

ALL_CALLS_S = 120.0


def caller_voices() -> Voices:
    return Voices(registry.load("tts", "espeak"))


@dataclass(frozen=True)
class Placed:
    """One call that is over."""

    report: CallReport
    recording: Path
    entries: list[Entry]

    @property
    def journal(self) -> Conversation:
        return conversation(self.entries)

    @property
    def caller(self) -> Samples:
        return channels(self.recording)[0]

    @property
    def agent(self) -> Samples:
        return channels(self.recording)[1]

    def turn(self, index: int) -> TurnReport:
        return self.report.turns[index]

    def question(self, text: str) -> TurnView:
        """The journal's turn for what was asked so."""
        return next(turn for turn in self.journal.turns if text in turn.question)

    def times(self, kind: type, **fields: object) -> list[int]:
        """When events of that kind happened, ms of the journal."""
        return [
            entry.at
            for entry in self.entries
            if isinstance(entry.event, kind) and all(getattr(entry.event, key) == fields[key] for key in fields)
        ]


async def call(
    server: Server,
    *steps: Step,
    id: str = "CAcall",
    voices: Voices | None = None,
    language: str = "en-IN",
    manners: Manners = FIRST,
    timeout_s: float = ALL_CALLS_S,
    speakerphone: Speakerphone | None = None,
) -> Placed:
    recording = server.folder / f"{id}.wav"
    report = await place_call(
        server.line,
        PhoneScript(steps, language=language, manners=manners, speakerphone=speakerphone),
        voices=voices,
        call_id=id,
        record=recording,
        timeout_s=timeout_s,
    )
    return Placed(report, recording, await closed(server, id))


async def closed(server: Server, id: str, within_s: float = 8.0) -> list[Entry]:
    """The journal once the session is closed: after its own goodbye the agent gives the carrier three seconds."""
    deadline = asyncio.get_running_loop().time() + within_s
    while asyncio.get_running_loop().time() < deadline:
        entries = await server.entries(id)
        if entries and isinstance(entries[-1].event, SessionClosed):
            return entries
        await asyncio.sleep(0.1)
    raise AssertionError(f"{id} was not closed within {within_s} s; its last entry: {entries[-1:]}")


async def calls(server: Server, scripts: Mapping[str, tuple[Step, ...]], **options: object) -> dict[str, Placed]:
    """All at once; by name."""
    placed = await asyncio.gather(
        *(call(server, *steps, id=name, **options) for name, steps in scripts.items())  # type: ignore[arg-type]
    )
    return dict(zip(scripts, placed, strict=True))


def cough(ms: int = 260, level: int = 9000) -> bytes:
    """A burst of noise that dies away: 16-bit samples at 8000 Hz, always the same."""
    at = np.arange(8 * ms) / 8000
    burst = np.random.default_rng(8004).standard_normal(len(at))
    shape = np.minimum(at / 0.01, 1.0) * np.exp(-at * 9)
    return np.clip(burst * shape * level, -32000, 32000).astype("<i2").tobytes()


# -- stories that are told at the same time -------------------------------------------------------

Story = Callable[[Path, Voices], Awaitable[None]]
"""A whole test with servers of its own. They cost waiting and little work, so a file's stories run side by side."""


class Stories:
    """Register with ``@stories.tell``; a file's one test takes ``outcome`` for each of ``names``.

    ``others`` are told along: stories that stand in modules of their own.
    """

    def __init__(self, *others: Stories) -> None:
        self._stories: dict[str, Story] = {name: story for each in others for name, story in each._stories.items()}

    def tell(self, story: Story) -> Story:
        self._stories[story.__name__] = story
        return story

    @property
    def names(self) -> list[str]:
        return list(self._stories)

    def together(self, folder: Path, chosen: Iterable[str]) -> dict[str, BaseException | None]:
        """Tells the chosen ones; how each went, by name."""

        async def all_of_them() -> dict[str, BaseException | None]:
            names = list(chosen)
            async with caller_voices() as voices:
                told = await asyncio.gather(
                    *(self._stories[name](folder / name, voices) for name in names), return_exceptions=True
                )
            return dict(zip(names, told, strict=True))

        return asyncio.run(all_of_them())


def chosen(request: pytest.FixtureRequest) -> list[str]:
    """The stories of the module that this run of pytest asks for."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    return [
        item.callspec.params["name"] for item in items if item.module is request.module and "name" in item.fixturenames
    ]
