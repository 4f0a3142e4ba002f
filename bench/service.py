"""What is measured of the low-latency voice service (``/orchestrate``), as a command and as a file.

``python -m bench --ledger`` and ``--text``; both can be asked for at once, and then are in one file.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from bench import ledger, text
from bench.plot_ledger import draw
from bench.visiting import Cores
from bench.visits import Visits


class Service(msgspec.Struct, kw_only=True):
    """The JSON file. What was not asked for is empty."""

    at: str
    command: str
    python: str
    cpu: str
    real_time: bool = False
    """Server and visitors went before all other programs (``chrt --rr 5 python -m bench ...``)."""
    versions: dict[str, str]
    ledger: list[ledger.Row] = []
    text: dict[str, Visits] = {}
    verdicts: list[str] = []


def measure(found: Service, cores: Cores, *, with_ledger: bool, with_text: bool, turns: int, seconds: float) -> int:
    """Fills ``found``. Returns 1 if a turn was lost or somebody was refused. Raises ``RuntimeError``."""
    if with_ledger:
        print(ledger.HEAD)
        found.ledger = ledger.run(cores, turns)
        found.verdicts += ledger.verdicts(found.ledger)
    if with_text:
        print(text.HEAD)
        found.text = text.run(cores, seconds=seconds)
        found.verdicts += text.verdicts(found.text)
    print("\n".join(["", *found.verdicts]))
    return 1 if any(map(is_faulty, steps(found))) else 0


def steps(found: Service) -> list[Visits]:
    return [*(row.visits for row in found.ledger), *found.text.values()]


def is_faulty(visits: Visits) -> bool:
    """Something was lost, and not only late."""
    return bool(visits.refused or visits.failed or visits.lost_turns or visits.errors or not visits.turns)


def write(found: Service, target: Path) -> None:
    """The file, and beside it the ledger's picture if there is a ledger."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    if found.ledger:
        target.with_suffix(".svg").write_text(draw(found.ledger, found.at), encoding="utf-8")
    print(f"written to {target}")
