"""``antiphon doctor``: says what is installed, reachable, configured and missing, and what mends each."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable

from antiphon.cli.doctor_report import Check, Finding, Printer, guarded

HELP = "say what is installed, reachable, configured and missing, and what mends it"
EXAMPLES = (
    ("antiphon doctor", "try out every configured part"),
    ("antiphon doctor --quick", "only look"),
    ("antiphon doctor --config server.toml", "of other settings"),
)

QUICK_S = 10.0
ALL_TRIALS_S = 180.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Says what is installed, reachable, configured and missing, and what mends it: each configured part does its "
        "work once. Exit status: 0 everything needed is there; 1 something needed is missing; 2 wrong arguments."
    )
    parser.add_argument("--config", metavar="FILE", help="the settings file (else antiphon.toml here, if there is one)")
    parser.add_argument("--quick", action="store_true", help="look only: no trial of voices, recogniser and answers")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    printer = Printer(as_json=args.json)
    asyncio.run(_examine(args, printer))
    return printer.end()


async def _examine(args: argparse.Namespace, printer: Printer) -> None:
    from functools import partial

    from antiphon import config
    from antiphon.cli import doctor_keys
    from antiphon.cli import doctor_machine as machine
    from antiphon.cli import doctor_settings as chosen
    from antiphon.errors import ConfigError

    try:
        settings = config.load(args.config)
        notes = [Finding(area="settings", status="note", text=text) for text in settings.warnings]
        source = settings.source or "defaults (no antiphon.toml here)"
        printer.add([Finding(area="settings", status="ok", text=source), *notes])
    except ConfigError as error:
        printer.add([Finding(area="settings", status="missing", text=str(error)), _go_on()])
        settings = config.Settings()
    looks: tuple[tuple[str, Callable[[config.Settings], Awaitable[list[Finding]]]], ...] = (
        ("python", machine.python),
        ("packages", machine.packages),
        ("machine", machine.machine),
        ("knowledge", chosen.knowledge),
        *((("providers", chosen.providers),) if args.quick else ()),
        ("languages", chosen.languages),
        ("policy", chosen.policy),
        ("address", chosen.address),
        ("tls", chosen.files),
        ("journal", machine.journal),
        ("port", machine.port),
        ("keys", doctor_keys.keys),
    )
    for area, look in looks:
        printer.add(await guarded(area, QUICK_S, partial(look, settings)))
    if args.quick:
        return
    from antiphon.cli.doctor_speech import Bench

    bench = Bench(settings)
    trials: tuple[tuple[str, Check, str], ...] = (
        ("voices", bench.voices, "the voices speak"),
        ("hearing", bench.hearing, "the recogniser listens"),
        ("detector", bench.detection, "the voice detector listens"),
        ("retrieval", bench.understanding, "the knowledge base is searched"),
        ("answers", bench.answers, "the agent answers"),
    )
    try:
        for area, trial, doing in trials:
            printer.doing(doing)
            printer.add(await guarded(area, ALL_TRIALS_S, trial))
    finally:
        await bench.close()


def _go_on() -> Finding:
    return Finding(area="settings", status="note", text="the rest is examined with the defaults")
