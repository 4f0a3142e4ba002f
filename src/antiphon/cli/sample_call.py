"""The sample call: a caller with a voice of their own rings this very server, over its socket, and is checked upon.

The caller is ``antiphon call --json`` in a process of its own: what it computes (speaking, measuring) must not count
as the server's work nor hold up its loop, and its latencies are those of an independent observer. What was understood
and answered is read from the journal on disk, after the call.

The lines were chosen because the embedded recogniser hears them rightly over a telephone line, again and again; so was
the murmur: most others begin with a sound that it takes for a word at first, and a word takes the floor.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys

import msgspec

from antiphon.assembly import Antiphon
from antiphon.cli.address import media_url
from antiphon.cli.live_view import LiveView
from antiphon.cli.sample_verdict import Line, judge
from antiphon.config import Settings
from antiphon.errors import UNUSABLE, AntiphonError, ConfigError, UnknownSession
from antiphon.kernel.events import Entry, SessionClosed
from antiphon.knowledge import Knowledge, load_knowledge
from antiphon.phone.report import CallReport
from antiphon.server.run import Running

LANGUAGE = "en-IN"

LINES = (
    Line("What are the admission requirements?", entry="requirements", murmur="Aha."),
    Line("And for international students?", entry="requirements-international"),
    Line("When do applications open?", entry="applications-open", barge_in_s=1.2),
    Line("How much does the MBA cost?", entry="fees-mba"),
    Line("Okay, goodbye.", says_goodbye=True),
)
MURMUR_AFTER_S = 1.5
LONGEST_S = 120.0
RELEASE_S = 5.0
"""From the end of the line to the journal's last entry: the session waits 3 s for a line that does not close."""


class SampleFailed(AntiphonError):
    """The sample call could not be placed."""

    default_code = "sample"


def check(settings: Settings) -> None:
    """Raises ``ConfigError`` if these settings cannot take the sample call, before anything is started."""
    if settings.twilio.auth_token:
        raise ConfigError(
            "--sample-call: lines must be signed by Twilio (auth_token is set): unset it, or leave it out"
        )
    if settings.server.tls_cert:
        raise ConfigError("--sample-call: it calls without TLS: leave tls_cert and tls_key out, or --sample-call")
    known = {entry.id for entry in _knowledge(settings).entries}
    missing = [line.entry for line in LINES if line.entry and line.entry not in known]
    if missing:
        raise ConfigError(
            f"--sample-call asks about the demo knowledge base, and yours has no {', '.join(missing)}: "
            "call with questions of your own: antiphon call --say ..."
        )


def _knowledge(settings: Settings) -> Knowledge:
    return load_knowledge(str(settings.retrieval.settings.get("knowledge", "")))


def line_of(antiphon: Antiphon, running: Running) -> str:
    """Where a phone on this machine calls."""
    return media_url(running.host, running.port, secure=running.secure, path=next(iter(antiphon.routes)))


def caller_command(url: str, call_id: str) -> list[str]:
    """The caller's process: ``antiphon call`` with the sample's lines, and without a look into the journal: we look."""
    command = [sys.executable, "-m", "antiphon", "call", "--json", "--by-ear", "--url", url, "--call-id", call_id]
    command += ["--language", LANGUAGE, "--timeout", str(LONGEST_S)]
    for line in LINES:
        if line.barge_in_s is not None:
            command += ["--barge-in", str(line.barge_in_s)]
        command += ["--say", line.text]
        if line.murmur:
            command += ["--backchannel", f"{line.murmur}@{MURMUR_AFTER_S}"]
    return command


async def place_sample_call(antiphon: Antiphon, running: Running, view: LiveView) -> bool:
    """Places the call, shows what came of it, and says whether every expectation was met.

    Raises ``SampleFailed`` if the caller's process failed. Cancelled, it ends that process.
    """
    call_id = "sample-" + secrets.token_hex(4)
    report = await _call(line_of(antiphon, running), call_id)
    entries = await _journal(antiphon, call_id)
    verdict = judge(LINES, report, entries, _knowledge(antiphon.settings))
    for each in verdict.rendered():
        view.print(each)
    return not verdict.failures


async def _call(url: str, call_id: str) -> CallReport:
    # A session of its own: Ctrl-C in the terminal is this process's to handle, which then ends the caller.
    process = await asyncio.create_subprocess_exec(
        *caller_command(url, call_id),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(LONGEST_S + 10):
            out, complaints = await process.communicate()
    except TimeoutError:
        raise SampleFailed("the caller's process does not end") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return msgspec.json.decode(out, type=CallReport)
    except UNUSABLE:
        said = " ".join(complaints.decode(errors="replace").split())[-300:]
        raise SampleFailed(f"the caller's process ended with status {process.returncode}: {said}") from None


async def _journal(antiphon: Antiphon, call_id: str) -> list[Entry]:
    """The call's entries from disk, once the last of them is there; those that are if it never comes."""
    journal = antiphon.host.services.journal
    entries: list[Entry] = []
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RELEASE_S):
            while not (entries and isinstance(entries[-1].event, SessionClosed)):
                await asyncio.sleep(0.1)
                with contextlib.suppress(UnknownSession):
                    entries = await journal.read(call_id)
    return entries
