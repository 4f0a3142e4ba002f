"""What the end of a question sounds like to Antiphon's own detector: the part of a wait that is no server's cost.

The detector hears a voice fade, and finds its end some windows after its last loud sample. How many depends on the
recording and on where the windows of 32 ms fall. What a caller sent is known to the sample, so the same detector
can be asked again, without a server, clock or load: the server's wait less this and the endpointing delay is its own,
but for the first quarter of a millisecond of the voice, which nobody hears yet.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from antiphon.media.activity import ActivityBatch
from antiphon.media.codec import encode
from antiphon.media.gate import Edge, Gate
from antiphon.media.silero import WINDOW
from antiphon.providers.tts.fake import tone
from antiphon.runtime.vad import load_weights
from bench.caller import QUIET, Caller, Turn

FRAME_MS, SAMPLES_PER_MS = 20, 8
EARLY_MS, LATE_MS = 200.0, 600.0
"""An end that is found outside of this, counted from the end of the recording, is that of something else."""


def sent_audio(caller: Caller) -> bytes:
    """All that ``caller`` sent so far, mu-law; a question that is still being asked is left out."""
    frames = [caller.noise[number % len(caller.noise)] for number in range(caller.sent)]
    for turn in caller.turns:
        spoken = caller.utterances[turn.line].frames
        frames[turn.chunk - 1 : turn.chunk - 1 + len(spoken)] = spoken
    return b"".join(map(b64decode, frames))


def onset_ms() -> float:
    """How long the providers' voice sounds before callers count it as audible: it swells from nothing."""
    voice = encode("mulaw", tone(1000 * SAMPLES_PER_MS, 1000))
    return (len(voice) - len(voice.lstrip(QUIET))) / SAMPLES_PER_MS


def tails_ms(callers: Sequence[Caller]) -> list[list[float | None]]:
    """For each turn of each caller: ms from its last sample to where the detector puts its end; None: not found."""
    with threadpool_limits(1):  # products of these sizes gain nothing from threads that wait for each other
        return _tails_ms(callers)


def _tails_ms(callers: Sequence[Caller]) -> list[list[float | None]]:
    batch, gates = ActivityBatch(load_weights(), slots=max(1, len(callers))), [Gate() for _ in callers]
    audio = [sent_audio(caller) for caller in callers]
    ends: list[list[Edge]] = [[] for _ in callers]
    for start in range(0, max(map(len, audio), default=0) - WINDOW + 1, WINDOW):
        live = [slot for slot, line in enumerate(audio) if len(line) >= start + WINDOW]
        windows = b"".join(audio[slot][start : start + WINDOW] for slot in live)
        for slot, probability in zip(live, batch.step(live, [("mulaw", windows)]), strict=True):
            edge = gates[slot].step(probability)
            if edge is not None and edge.kind == "stopped":
                ends[slot].append(edge)
    return [[_tail(caller, turn, found) for turn in caller.turns] for caller, found in zip(callers, ends, strict=True)]


def _tail(caller: Caller, turn: Turn, found: Sequence[Edge]) -> float | None:
    line = caller.utterances[turn.line]
    end = (turn.chunk - 1 + len(line.frames)) * FRAME_MS - line.tail_ms
    near = [edge.position_ms - end for edge in found if -EARLY_MS < edge.position_ms - end < LATE_MS]
    return near[-1] if near else None
