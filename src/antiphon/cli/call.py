"""``antiphon call``: a telephone that calls an agent, speaks to it, and says how it was."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antiphon.cli.call_display import CrowdDisplay, OneCallDisplay
from antiphon.cli.journal_source import console, fail
from antiphon.errors import AntiphonError, ConfigError
from antiphon.phone import Backchannel, CallReport, Digits, HangUp, Manners, PhoneScript, Play, Say, Step, Wait
from antiphon.phone.caller import place_call
from antiphon.phone.report import percentiles
from antiphon.phone.sound import read_wav
from antiphon.phone.transcribe import transcribe_reply
from antiphon.phone.voices import Voices
from antiphon.providers import registry

HELP = "call an agent as a phone does, and measure it"
URL = "ws://127.0.0.1:8004/media-stream"
SAMPLE = ("What are the admission requirements?", "And for international students?", "Thank you, goodbye.")
MAX_CALLS = 1000
STAGGER_S = 0.1


class _Ordered(argparse.Action):
    """Keeps what is said, played and pressed in the order of the command line."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        namespace.script = [*(namespace.script or []), (self.dest, values)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Calls an agent over the Twilio Media Streams protocol. Lines, recordings and keys follow in the order given; "
        "without any, a sample conversation is spoken. Exit status 0 if every turn was answered."
    )
    parser.set_defaults(script=None)
    spoken = parser.add_argument_group("what the caller does, in order")
    spoken.add_argument("--say", action=_Ordered, metavar="TEXT", help="speak this line")
    spoken.add_argument("--wav", action=_Ordered, metavar="FILE", help="play this recording as a line")
    spoken.add_argument(
        "--barge-in",
        action=_Ordered,
        type=_seconds,
        metavar="S",
        help="the next line interrupts, S seconds into a reply",
    )
    spoken.add_argument(
        "--backchannel", action=_Ordered, metavar="TEXT[@S]", help='murmur into the reply, for example "mm-hm@1.5"'
    )
    spoken.add_argument("--digits", action=_Ordered, metavar="KEYS", help="press keys: 0-9, * and #")
    spoken.add_argument("--wait", action=_Ordered, type=_seconds, metavar="S", help="stay silent")
    spoken.add_argument("--hang-up-after", type=_seconds, metavar="S", help="hang up S seconds into the last reply")
    parser.add_argument("--url", default=URL, help=f"the agent's media stream (default {URL})")
    parser.add_argument("--language", default="en-IN", metavar="TAG", help="of the lines and the call (default en-IN)")
    parser.add_argument("--call-id", metavar="ID", help="call under this id: an id known to the agent goes on with it")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a custom stream parameter")
    parser.add_argument("--tts", default="espeak", metavar="NAME", help="the caller's voice (default espeak)")
    parser.add_argument("--voice", default="", metavar="NAME", help="a voice of that provider")
    parser.add_argument("--noise", type=int, default=0, metavar="0-200", help="amplitude of noise on the line")
    parser.add_argument(
        "--quiet", type=_seconds, default=0.7, metavar="S", help="silence after which the agent is done"
    )
    parser.add_argument(
        "--greeting", type=_seconds, default=5.0, metavar="S", help="wait this long for the agent to speak first"
    )
    parser.add_argument("--timeout", type=_seconds, default=600.0, metavar="S", help="longest call")
    parser.add_argument("--calls", type=int, default=1, metavar="N", help="place N calls at once")
    parser.add_argument("--record", metavar="FILE", help="save a stereo WAV: caller left, agent right")
    parser.add_argument("--transcribe", action="store_true", help="also write down what the agent said")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the conversation")


def run(args: argparse.Namespace) -> int:
    try:
        script = script_from(args)
        parameters = _parameters(args.param)
        if not 1 <= args.calls <= MAX_CALLS:
            raise ConfigError(f"--calls takes 1 to {MAX_CALLS}")
        if args.record is not None:
            _check_recording(Path(args.record), args.calls)
        reports = asyncio.run(_place(args, script, parameters))
    except AntiphonError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("antiphon: hung up", file=sys.stderr)
        return 130
    if any(report.ended_by == "failed" for report in reports):
        return 2
    return 0 if all(report.all_answered for report in reports) else 1


def _check_recording(place: Path, calls: int) -> None:
    """Before anybody is called. Raises ``ConfigError``."""
    if calls > 1:
        raise ConfigError("--record keeps one call: leave it out, or place one call")
    if place.is_dir() or not os.access(place.parent, os.W_OK):
        raise ConfigError(f"--record {place}: no file can be written there, name one in a folder that exists")


def script_from(args: argparse.Namespace) -> PhoneScript:
    """The steps of the command line. Raises ``ConfigError`` for one that cannot be taken."""
    steps: list[Step] = []
    barge_in: float | None = None
    for kind, value in args.script or [("say", text) for text in SAMPLE]:
        if kind == "barge_in":
            barge_in = value
        elif kind == "say":
            steps.append(Say(value, barge_in_s=barge_in))
            barge_in = None
        elif kind == "wav":
            steps.append(Play(read_wav(value), value, barge_in_s=barge_in))
            barge_in = None
        else:
            steps.append(_step(kind, value))
    if barge_in is not None:
        raise ConfigError("--barge-in comes before the line that interrupts")
    if args.hang_up_after is not None:
        steps.append(HangUp(args.hang_up_after))
    if not 0 <= args.noise <= 200:
        raise ConfigError("--noise takes 0 to 200")
    return PhoneScript(
        tuple(steps), args.language, Manners(quiet_s=args.quiet, greeting_s=args.greeting, noise=args.noise)
    )


def _step(kind: str, value: Any) -> Step:
    if kind == "wait":
        return Wait(value)
    if kind == "digits":
        if not value or set(value) - set("0123456789*#"):
            raise ConfigError("--digits takes the keys 0 to 9, * and #")
        return Digits(value)
    text, at, after = value.rpartition("@")
    try:
        return Backchannel(text, float(after)) if at else Backchannel(value)
    except ValueError:
        raise ConfigError('--backchannel takes a text and perhaps seconds, such as "mm-hm@1.5"') from None


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= 86_400:
        raise ValueError(text)
    return seconds


def _parameters(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if not all(name and equals for name, equals, _ in pairs):
        raise ConfigError("--param takes NAME=VALUE")
    return {name: value for name, _, value in pairs}


async def _place(args: argparse.Namespace, script: PhoneScript, parameters: dict[str, str]) -> list[CallReport]:
    speaks = any(isinstance(step, Say | Backchannel) for step in script.steps)
    options: dict[str, Any] = {"parameters": parameters, "timeout_s": args.timeout}
    if not speaks:
        return await _calls(args, script, options)
    async with Voices(registry.load("tts", args.tts), args.voice) as voices:
        return await _calls(args, script, {**options, "voices": voices})


async def _calls(args: argparse.Namespace, script: PhoneScript, options: dict[str, Any]) -> list[CallReport]:
    if args.calls == 1:
        return [await _one(args, script, options)]
    display = CrowdDisplay(console(), args.calls, silent=args.json)

    async def one(number: int) -> CallReport:
        await asyncio.sleep(number * STAGGER_S)
        call_id = f"{args.call_id}-{number + 1}" if args.call_id else None
        report = await place_call(args.url, script, call_id=call_id, on_event=display.note, **options)
        display.finished(number + 1, report)
        return report

    with display:
        reports = list(await asyncio.gather(*(one(number) for number in range(args.calls))))
    latencies = [latency for report in reports for latency in report.latencies]
    if args.json:
        crowd = {"calls": [report.as_dict() for report in reports], "latency_ms": percentiles(latencies)}
        print(json.dumps(crowd, ensure_ascii=False, indent=2))
    else:
        display.summary(reports)
    return reports


async def _one(args: argparse.Namespace, script: PhoneScript, options: dict[str, Any]) -> CallReport:
    display = OneCallDisplay(console(), args.url, silent=args.json)
    with display:
        report = await place_call(
            args.url, script, call_id=args.call_id, record=args.record, on_event=display.note, **options
        )
    texts: list[str] = []
    if args.transcribe:
        async with transcribe_reply(registry.load("stt", "pocketsphinx"), args.language) as transcribe:
            texts = [await transcribe(turn.audio) for turn in report.turns]
    if args.json:
        plain = report.as_dict()
        if texts:
            plain["agent_said"] = texts
        print(json.dumps(plain, ensure_ascii=False, indent=2))
    else:
        display.summary(report, texts, args.record)
    return report
