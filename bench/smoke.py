"""``python -m bench --smoke``: does the benchmark work at all? Under a minute, figures without meaning.

The contenders run one after the other for a few seconds. A peer whose environment has not been made is not made now,
and that is said: a check that installs a gigabyte is none that runs with every change.
"""

from __future__ import annotations

import sys

from bench import stages, text
from bench.compare import Run
from bench.contenders import CONTENDERS, compiled
from bench.peers import environment
from bench.server import Delays
from bench.service import is_faulty
from bench.table import HEAD

SECONDS, ECHO_S, PEER_S, RAMP_S = 6.0, 1.5, 4.5, 1.0
SHORT = Delays(reply="Yes, certainly.")
"""The peers greet with it, too: their callers come to their question sooner."""


def run(cores: tuple[int, int]) -> int:
    """Returns 1 if a call failed, or a turn was lost, or none was asked."""
    chosen = [each for each in CONTENDERS if not each.variant]
    absent = [each.peer for each in chosen if each.peer and not environment.is_ready(each.peer)]
    compiled()
    bench = Run(cores, SECONDS, ECHO_S, ramp_s=RAMP_S, warm_s=0.0)
    print(HEAD)
    for each in chosen:
        if each.peer and each.peer not in absent:
            bench.step(each, 4, "load", 1, seconds=PEER_S, delays=SHORT)
        elif not each.peer:
            bench.step(each, 20, "load", 1)
    modes = stages.run(1, SECONDS, cores[0], bench.measure, names=("speculative",))
    visitors = text.run(cores, 20, ECHO_S, (text.Coming("at once", 0.0),), warm_s=0.0)
    steps = [m.step for m in bench.measured if not m.contender.startswith("floor")]
    trips = [m.step for m in bench.measured if m.contender.startswith("floor")]
    faults = [f"{m.contender}: {m.step.failed_calls} calls failed" for m in bench.measured if m.step.failed_calls]
    faults += [f"{step.lost_turns} of {step.turns} turns lost" for step in steps if step.lost_turns or not step.turns]
    faults += ["no message came back from the floor" for step in trips if step.first_audio_p50 <= 0]
    faults += [f"{mode.mode}: {mode.lost_turns} of {mode.turns} turns lost" for mode in modes if mode.lost_turns]
    faults += [f"visitors {name}: {text.verdicts({name: v})[0]}" for name, v in visitors.items() if is_faulty(v)]
    for peer in absent:
        print(f"NOT CHECKED: {peer}, whose environment has not been made (python -m bench.peers.environment)")
    for fault in faults:
        sys.stderr.write(f"bench: {fault}\n")
    return 1 if faults else 0
