"""``python -m bench.document``: writes ``docs/performance.md`` and its pictures from the newest results.

Of each kind the newest in ``bench/results`` counts: the comparison, the ledger and the visitors of ``/orchestrate``.
The text between the figures lives here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import ledger, plot, plot_ledger, text
from bench.report import Report
from bench.service import Service, steps
from bench.table import answer_table, limit_table, summary_table

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
DOCS = ROOT / "docs"
QUIET_PERCENT = 10.0

HEAD = """\
# Performance

What a turn's wait is made of, how many conversations one core carries, and how that compares with two peers and with a
server that does nothing but send back. How it is measured and how to read it: [bench/README.md](../bench/README.md).
"""
LEDGER = """\
## Where the milliseconds of a turn go

Over `/orchestrate`, with providers that take what the budget of 445 ms gives them: recogniser 50 ms, intent 50 and
retrieval 80, model 100 to its first token, voice 75 to its first chunk. The silence that ends a turn is 120 ms here, so
that 20 are left for transport and queueing. "Floor" is the sum of what cannot overlap.

Measured {at} with `{command}` on {cpu}: the server on one core, its visitors on another. {quiet}

![Each way to go about a turn, as a bar](performance-ledger.svg)

{table}

{verdicts}
"""
VISITORS = """\
## A thousand conversations on one process

Visitors of `/orchestrate`, each with a turn every ten seconds, providers without delay; the answer is three seconds of
sound. The waits run from the end of the turn to the first sound, or to the first words where there is none.

Measured {at} with `{command}` on {cpu}: one core for the server. {quiet}

{table}

{verdicts}
"""
COMPARED = """\
## Compared

Antiphon, its two nearest peers and the floor, in one run: the same phone callers, the same providers, one core each.

![CPU per call-second, first audio and calls per core](performance.svg)

Measured {at} with `{command}` on {cores} cores of {cpu}. {quiet}
{versions}

### What it costs, and how long callers wait

Providers without delay, voice detection on. The median of {rounds} rounds, with the lowest and the highest in
parentheses. The floor sends back every message; its "first audio" is the round trip.

{summary}

### Calls on one core

Until p99 of first audio is 200 ms above that of the fewest calls, or one turn in a hundred is lost.

{limits}

### With providers that take their time

Recogniser {d.stt_ms:.0f} ms, model {d.llm_ms:.0f} ms and {d.llm_token_ms:.0f} ms a token, voice {d.tts_ms:.0f} ms; ten
calls. First audio is counted from the end of the caller's speech. Then the same with a pause of 250, 500 or 750 ms
within the sentence: how often the agent spoke into it. In the first rows the recogniser tells words as they are spoken:
the last is known as the voice ends, and in the pause the sentence is unfinished ("what are"). In the rows "words early"
it knows the whole question after a third of it: an answer can be ready before the caller is, and in a pause the
sentence sounds complete, so that the pause is all that tells a caller who goes on from one who is done.

{answers}

### Against what is aimed at

{verdicts}
"""
PROFILE = """\
### Where the processor time of a call goes, and what more it would take

Of 2026-11-22, 400 calls, by sampling what the processor does (`perf record` with call graphs; Python 3.12, whose
`-X perf` names its functions; 836 samples). With so few samples a share is right to two or three points.

| share | what |
|---|---|
| 24 % | the detector's thread, mostly the model |
| 22 % | windows on the loop: 31 a second to the detector and back |
| 17 % | turns: session and journal entries, metrics, the model's tokens, the voice |
| 16 % | pacing and sending |
| 12 % | reading: the kernel's part, the parser, what comes of it |
| 5 % | the journal's thread |
| 2 % | the event loop itself |
| 2 % | decoding for the recogniser, while somebody speaks |

- **What changed the picture**: until then a quarter was the path of a message through Python objects that are not in
  the cache, and a quarter the reading of single messages. Phone lines are now read in C, together
  (`src/antiphon/lane`): 1.85 -> 1.48 ms per call-second at 200 calls, in a quiet moment between disturbed ones. After
  it a window's way over the loop took 30 % fewer instructions, the detector's thread 12 % less time, feeding the
  recogniser 54 % and a turn 30 % fewer instructions (callgrind; the fake recogniser, like others, is now fed 100 ms at
  once): about 1.1 to 1.4 ms at 400 calls, as the machine is quick or slow.
- What the slowest turns at 600 calls waited for was the benchmark's own end: callers who were done hung up all at
  once, while others still waited for their answer. They now stay until everybody is answered. Those who hang up in
  one moment do hold a core up: nearly 400 of them, for 165 ms.
- What more it would take: of a window's 20,000 instructions on the loop half are Python that puts windows together and
  hands them out; in C, by estimate, 0.1 ms per call-second. Two thirds of the detector's thread are its model's
  products at the speed that the processor has; only fewer windows that are awake would make it cheaper.
- **At one call** the part that is Antiphon's own is some 1.2 ms of thirty small steps whose code is not in the cache,
  and up to 1.2 ms of timers that count whole milliseconds: the end of a turn falls into one, and the loop waits
  to the end of another. With ten calls it is less, as the cache is warm.
- With ten calls (5.3 times the echo server) the wake-ups decide: each costs some 40 microseconds, the echo server's
  as well; a detector that answers every call's window at once, a wheel and two threads have more of them.
- Tried and left out: `SO_RCVLOWAT` of two or three messages (20 to 40 ms later barge-in); sockets read in beats of 5 or
  20 ms instead of 10 (no clear difference); another niceness of the detector's thread (none); a shorter switch interval
  of the interpreter (none).
- With words that come as they are spoken an answer is begun with the last word, as the voice ends, and its first sound
  is there 350 + 9 x 15 + 150 ms later, some 600 ms after the voice's end. What is waited for as long is the final:
  the gate closes 300 ms after the voice's end, and the recogniser takes as long. Begun in the first silent window, some
  100 ms after the voice's end, the answer itself came last (768 ms). The price is answers thrown away, at most
  `speculations_in_speech` more a turn, and that a pause which outlasts `endpoint_ms` is spoken into more often where
  the words before it sound complete: in "words early", of 500 ms, in 8 of 20 turns instead of none (there the answer
  used to come only after the caller had gone on).
- A start is imports by now: FastAPI with pydantic some 150 ms of 1,300, its routes 30. An eighth was the garbage
  collector's before it rested meanwhile, an eighth the prepared phrases before they were kept on disk.
"""
NOT_COMPARED = """\
## Compared

There is no run beside the peers among the results yet: `python -m bench --document` makes one, in over an hour.
"""
TAIL = """\
Written by `python -m bench.document`; run the benchmark with `--document` and it is written anew.
"""
DOUBTFUL = "These figures show that the benchmark works, and no more."
UPPER = "Waits and costs are higher than they would be without them."
REAL_TIME = " Server and visitors ran at real-time priority."
LEFT_OUT = "Left out of this run."


def document(report: Report | None = None, measured: Sequence[Service] = ()) -> str:
    """The page. ``measured``: newest first; of each kind the newest is shown. What there is not is left out."""
    parts = [HEAD]
    with_ledger = next((each for each in measured if each.ledger), None)
    with_text = next((each for each in measured if each.text), None)
    if with_ledger is not None:
        said = ledger.verdicts(with_ledger.ledger)
        parts.append(_service(LEDGER, with_ledger, ledger.table(with_ledger.ledger), said))
    if with_text is not None:
        said = text.verdicts(with_text.text)
        parts.append(_service(VISITORS, with_text, text.table(with_text.text), said))
    parts += [NOT_COMPARED] if report is None else [_compared(report), PROFILE]
    return "\n".join([*parts, TAIL])


def _service(template: str, found: Service, table: list[str], verdicts: list[str]) -> str:
    quiet = _quiet([visits.others_percent for visits in steps(found)], UPPER)
    return template.format(
        at=found.at,
        command=found.command,
        cpu=found.cpu,
        quiet=quiet + (REAL_TIME if found.real_time else ""),
        table="\n".join(table),
        verdicts=_listed(verdicts),
    )


def _compared(report: Report) -> str:
    rounds = max((s.rounds for s in report.summaries if s.part == "load"), default=0)
    answers = answer_table(report.summaries) if any(s.part == "answer" for s in report.summaries) else []
    return COMPARED.format(
        at=report.at,
        command=report.command,
        cores=report.cores,
        cpu=report.cpu,
        quiet=_quiet([measured.step.others_percent for measured in report.steps], DOUBTFUL),
        versions="\n".join(["", *(_versions(name, found) for name, found in report.versions.items())]),
        rounds=rounds,
        summary="\n".join(summary_table(report.summaries)) if rounds else LEFT_OUT,
        limits="\n".join(limit_table(report.limits)) if report.limits else LEFT_OUT,
        d=report.realistic,
        answers="\n".join(answers) or LEFT_OUT,
        verdicts=_listed(report.verdicts),
    )


def _quiet(others_percent: Sequence[float], else_: str) -> str:
    most = max(others_percent, default=0.0)
    if most <= QUIET_PERCENT:
        return f"Nothing else ran on the machine (at most {most:.0f} % of a core)."
    return f"**The machine was not quiet: other programs used up to {most:.0f} % of a core. {else_}**"


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) or LEFT_OUT


def _versions(name: str, found: dict[str, str]) -> str:
    return f"- {name}: " + ", ".join(f"{package} {version}" for package, version in found.items())


def main(folder: Path = RESULTS) -> int:
    compared = sorted(folder.glob("[0-9]*.json"), reverse=True)
    measured = sorted(folder.glob("service-*.json"), reverse=True)
    if not compared and not measured:
        sys.stderr.write("there are no results yet: run make bench\n")
        return 1
    write(
        msgspec.json.decode(compared[0].read_bytes(), type=Report) if compared else None,
        [msgspec.json.decode(each.read_bytes(), type=Service) for each in measured],
    )
    return 0


def write(report: Report | None, measured: Sequence[Service], folder: Path = DOCS) -> None:
    files = {"performance.md": document(report, measured)}
    if report is not None:
        files["performance.svg"] = plot.draw(report)
    with_ledger = next((each for each in measured if each.ledger), None)
    if with_ledger is not None:
        files["performance-ledger.svg"] = plot_ledger.draw(with_ledger.ledger, with_ledger.at)
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
        print(f"written: {name}")


if __name__ == "__main__":
    sys.exit(main())
