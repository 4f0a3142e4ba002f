"""``antiphon call`` at work: from its arguments to a script, to calls, to what is printed of them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antiphon import config
from antiphon.cli.address import completed, is_own, own_url
from antiphon.cli.call import SAMPLE
from antiphon.cli.call_display import CrowdDisplay, OneCallDisplay
from antiphon.cli.call_judge import judge_calls
from antiphon.cli.journal_source import console, journal_place
from antiphon.errors import ConfigError
from antiphon.phone import Backchannel, CallReport, Digits, HangUp, Manners, PhoneScript, Play, Say, Step, Wait
from antiphon.phone.caller import place_call
from antiphon.phone.report import percentiles
from antiphon.phone.sound import read_wav
from antiphon.phone.transcribe import transcribe_reply
from antiphon.phone.voices import Voices
from antiphon.providers import registry

STAGGER_S = 0.1


def place(args: argparse.Namespace) -> list[CallReport]:
    """Places the calls and prints what came of them. Raises ``AntiphonError`` before anybody is called."""
    script = script_from(args)
    parameters = _parameters(args.param)
    args.url = completed(args.url) if args.url else own_url(config.load(args.config).server)
    if args.record is not None:
        _check_recording(Path(args.record), args.calls)
    return asyncio.run(_place(args, script, parameters))


def script_from(args: argparse.Namespace) -> PhoneScript:
    """The steps of the command line. Raises ``ConfigError`` for one that cannot be taken."""
    steps: list[Step] = []
    barge_in: float | None = None
    for kind, value in args.script or [("say", text) for text in SAMPLE]:
        if kind == "barge_in":
            barge_in = value
        elif kind == "say":
            steps.append(Say(_words(value), barge_in_s=barge_in))
            barge_in = None
        elif kind == "wav":
            steps.append(Play(read_wav(value), value, barge_in_s=barge_in))
            barge_in = None
        else:
            steps.append(_step(kind, value))
    if barge_in is not None:
        raise ConfigError("--barge-in comes before the line that interrupts: --barge-in 1.5 --say TEXT")
    if args.hang_up_after is not None:
        steps.append(HangUp(args.hang_up_after))
    return PhoneScript(
        tuple(steps), args.language, Manners(quiet_s=args.quiet, greeting_s=args.greeting, noise=args.noise)
    )


def _words(text: str) -> str:
    if not text.strip():
        raise ConfigError('--say takes words to speak, such as --say "What are the fees?"; --wait S is silence')
    return text


def _step(kind: str, value: Any) -> Step:
    if kind == "wait":
        return Wait(value)
    if kind == "digits":
        if not value or set(value) - set("0123456789*#"):
            raise ConfigError(f"--digits takes the keys 0 to 9, * and #, such as 12#, not {value!r}")
        return Digits(value)
    text, at, after = value.rpartition("@")
    try:
        murmur = Backchannel(text, float(after)) if at else Backchannel(value)
    except ValueError:
        murmur = Backchannel("")
    if not murmur.text.strip() or not 0 <= murmur.after_s < float("inf"):
        raise ConfigError(f'--backchannel takes a text and perhaps seconds, such as "mm-hm@1.5", not {value!r}')
    return murmur


def _parameters(given: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    for text, (name, equals, _) in zip(given, pairs, strict=True):
        if not (name and equals):
            raise ConfigError(f"--param takes NAME=VALUE, not {text!r}")
    return {name: value for name, _, value in pairs}


def _check_recording(place: Path, calls: int) -> None:
    """Before anybody is called. Raises ``ConfigError``."""
    if calls > 1:
        raise ConfigError("--record keeps one call: leave it out, or place one call")
    if place.is_dir() or not os.access(place.parent, os.W_OK):
        raise ConfigError(f"--record {place}: no file can be written there, name one in a folder that exists")


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
        await _judge(args, reports)
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
        await _judge(args, [report])
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


async def _judge(args: argparse.Namespace, reports: Sequence[CallReport]) -> None:
    """A journal that was named is looked into; else that of the settings, for a server on this machine."""
    if args.by_ear or not (args.journal or is_own(args.url)):
        return
    try:
        place = journal_place(args)
    except ConfigError:  # of settings that were not needed to find the server
        return
    await judge_calls(reports, place, needed=bool(args.journal))
