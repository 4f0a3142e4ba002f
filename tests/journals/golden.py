"""The golden journals: simulated calls that show what a call can be, kept as they were first decided.

``test_golden_journals.py`` folds each again. If a change of rules is meant, write them anew and read the
difference before keeping it:

    python tests/journals/golden.py
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import msgspec

from antiphon.kernel.events import Entry
from antiphon.sim.invariants import journal_json, violations
from antiphon.sim.plan import Act, Plan
from antiphon.sim.runner import simulate

FOLDER = Path(__file__).resolve().parent

ASK = Act("ask", 4)
END = Act("hang_up", after_ms=500)
WAIT = Act("silence", after_ms=4_000)
DROPPED = ("", "")
"""What providers do for the answers that are begun for a question's first two words, and dropped: no fault."""

PLANS = {
    "greeting-question-answer": Plan(1, acts=(ASK, WAIT, END)),
    "barge-in": Plan(2, acts=(ASK, Act("interrupt", 4, 700), WAIT, END)),
    "backchannel-and-cough": Plan(3, acts=(ASK, Act("backchannel", 1, 300), Act("cough", 1, 150), WAIT, END)),
    "split-question": Plan(4, acts=(Act("split", 5, 600), WAIT, END)),
    "goes-on-while-it-thinks": Plan(5, acts=(ASK, Act("ask", 3), WAIT, END), llm=(*DROPPED, "slow")),
    "every-rung-of-the-ladder": Plan(
        6,
        acts=(ASK, WAIT, WAIT),
        llm=(*DROPPED, "hang", "fail"),
        tts=("hang_middle", "cut", "fail"),
        intent=(*DROPPED, "hang"),
    ),
    "silence-to-goodbye": Plan(7, greeting=False),
    "not-understood": Plan(8, acts=(ASK,) * 5, stt=("blank",) * 5),
    "transcriber-fails": Plan(9, acts=(ASK, ASK, WAIT, END), stt=("fail", "hang")),
    "keys": Plan(10, acts=(Act("digits", 4, 300), Act("key", 2, 400), WAIT, END)),
    "dropped-and-back": Plan(11, acts=(ASK, Act("drop", 1, 1_500), WAIT, ASK, WAIT, END)),
    "second-line": Plan(12, acts=(ASK, Act("interrupt", 1, 300), Act("second_line"), WAIT, END)),
    "process-dies": Plan(13, acts=(ASK, Act("silence", after_ms=900), Act("crash", 1, 500), WAIT, END)),
    "effects": Plan(14, acts=(ASK, ASK, WAIT, END), llm=(*DROPPED, "effect", *DROPPED, "effect_slow")),
    "never-comes-back": Plan(15, acts=(ASK, Act("drop", 1, -1))),
    "agent-says-goodbye": Plan(16, acts=(ASK,), llm=(*DROPPED, "goodbye")),
}


def path(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def load(name: str) -> list[Entry]:
    """The entries of one golden journal."""
    return [msgspec.json.decode(line, type=Entry) for line in path(name).read_bytes().splitlines()]


def main() -> int:
    logging.disable(logging.CRITICAL)
    for name, plan in PLANS.items():
        record = simulate(plan)
        broken = violations(record)
        if broken:
            print(f"{name} breaks a rule and is not kept: {broken}", file=sys.stderr)
            return 1
        path(name).write_bytes(journal_json(record))
        print(f"{name}: {len(record.decisions)} entries")
    return 0


if __name__ == "__main__":
    sys.exit(main())
