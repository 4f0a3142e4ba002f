"""``python -m bench --parts stages``: what streaming and speculation save, with providers that take their time.

The same server three times: ``batch`` (the model's whole answer, then the voice, as the first version of
every phone agent does it), ``streaming`` (the first clause is spoken while the rest is still being
written) and ``speculative`` (the answer is begun on the stable partial transcript, while it is made sure
that the caller is done). The modes take turns, round by round, in one run.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from bench.load import Spec, Step
from bench.server import Delays, Server, antiphon

REALISTIC = Delays(
    stt_ms=150,
    partial_ms=150,
    llm_ms=300,
    llm_token_ms=30,
    tts_ms=120,
    reply="You need a school certificate, a language test of your choice, and two letters of recommendation.",
)
MODES = {
    "batch": msgspec.structs.replace(REALISTIC, delivery="whole", speculate="false"),
    "streaming": msgspec.structs.replace(REALISTIC, speculate="false"),
    "speculative": REALISTIC,
}
CALLS = 8


class Mode(msgspec.Struct, kw_only=True):
    """End of speech to first audio over all rounds, ms; ``spread``: the lowest and the highest median of a round."""

    mode: str
    turns: int
    lost_turns: int
    p50: float
    p99: float
    spread: tuple[float, float]


def run(
    rounds: int,
    seconds: float,
    core: int,
    measure: Callable[[Server, Spec], Step],
    names: Sequence[str] = tuple(MODES),
) -> list[Mode]:
    """Plays the modes ``rounds`` times. Raises ``RuntimeError`` if a server does not start."""
    found: dict[str, list[Step]] = {mode: [] for mode in names}
    for number in range(1, rounds + 1):
        for mode in names:
            delays = MODES[mode]
            with (
                tempfile.TemporaryDirectory(prefix="antiphon-bench-") as folder,
                antiphon(Path(folder), core, delays) as server,
            ):
                step = measure(server, Spec(url=server.url, calls=CALLS, ramp_s=2.0, seconds=seconds))
            found[mode].append(step)
            print(f"round {number} {mode:12s} {step.first_audio_p50:7.0f} ms median of {step.turns} turns", flush=True)
    return [_mode(name, steps) for name, steps in found.items()]


def _mode(name: str, steps: list[Step]) -> Mode:
    medians = [step.first_audio_p50 for step in steps]
    return Mode(
        mode=name,
        turns=sum(step.turns for step in steps),
        lost_turns=sum(step.lost_turns for step in steps),
        p50=statistics.median(medians),
        p99=statistics.median(step.first_audio_p99 for step in steps),
        spread=(min(medians), max(medians)),
    )


def table(modes: list[Mode]) -> str:
    """For people: each mode, and what it saves against the first."""
    d = REALISTIC
    lines = [
        f"stt {d.stt_ms:.0f} ms, model {d.llm_ms:.0f} ms + {d.llm_token_ms:.0f} ms a token, voice {d.tts_ms:.0f} ms",
        "end of speech to first audio, ms   p50    p99   medians of rounds   turns  lost   saves",
    ]
    for mode in modes:
        low, high = mode.spread
        lines.append(
            f"{mode.mode:30s}{mode.p50:8.0f}{mode.p99:7.0f}{low:11.0f} to {high:4.0f}"
            f"{mode.turns:8d}{mode.lost_turns:6d}{modes[0].p50 - mode.p50:8.0f}"
        )
    return "\n".join(lines)
