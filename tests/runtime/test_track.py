"""The track tells what it tells the line: what of it is played when is known to whoever listens for its echo."""

from __future__ import annotations

import asyncio

from antiphon.media.playout import Playout
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.track import Track
from antiphon.sim.clock import run

SECOND = bytes(range(1, 201)) * 40


class Line:
    transport, codec, sample_rate, marks = "test", "mulaw", 8000, False

    def __init__(self) -> None:
        self.cleared = 0

    def send(self, audio: bytes) -> None: ...

    def clear(self) -> None:
        self.cleared += 1


def test_what_is_sent_and_taken_back_is_what_is_played() -> None:
    async def main() -> None:
        line, wheel = Line(), PacingWheel()
        track = Track(
            call_id="c1",
            line=line,  # type: ignore[arg-type]
            playout=Playout(marks=False, lead_ms=120),
            wheel=wheel,
            post=lambda event: None,
        )
        track.begin(1)
        began = wheel.now_ms()
        track.add(1, track.ready(1, 1, "a text", "reply", "en-IN"), "a text", SECOND)
        track.play()
        await asyncio.sleep(0.3)
        assert track.played.window(began + 300, 800) == SECOND[1600:2400]
        track.pause()
        assert line.cleared == 1
        await asyncio.sleep(0.2)
        window = track.played.window(began + 500, 1600)
        assert window is not None
        assert set(window) == {0xFF}, "what was sent ahead was taken back"
        track.resume()
        await asyncio.sleep(0.2)
        heard = track.played.window(began + 700, 1600)
        assert heard is not None
        assert heard[:800] in SECOND
        wheel.close()

    run(main())
