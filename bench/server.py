"""Antiphon under test: started as a user starts it, pinned to one core, with the fake providers and their delays."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

START_S = 60.0
CONFIG = """\
[server]
host = "127.0.0.1"
port = {port}
max_sessions = 5000

[stt]
provider = "fake"
stt_ms = {delays.stt_ms}
partial_ms = {delays.partial_ms}

[llm]
provider = "fake"
llm_ms = {delays.llm_ms}
llm_token_ms = {delays.llm_token_ms}
delivery = "{delays.delivery}"
reply = "{delays.reply}"

[tts]
provider = "fake"
tts_ms = {delays.tts_ms}
char_ms = {delays.char_ms}

[intent]
provider = "fake"
intent_ms = {delays.intent_ms}

[retrieval]
provider = "fake"
retrieval_ms = {delays.retrieval_ms}

[policy]
speculate = {delays.speculate}

[journal]
path = "{journal}"

[log]
level = "WARNING"
"""


class Delays(msgspec.Struct, frozen=True, kw_only=True):
    """What the fake providers take (ms), and how the server goes about it. ``speculate`` is TOML."""

    stt_ms: float = 0
    partial_ms: float = 0
    llm_ms: float = 0
    llm_token_ms: float = 0
    tts_ms: float = 0
    char_ms: float = 60
    intent_ms: float = 0
    retrieval_ms: float = 0
    delivery: str = "tokens"
    speculate: str = "true"
    reply: str = "You need a school certificate and a language test."


class Server(msgspec.Struct, frozen=True):
    """``url`` is the media socket's; the others are empty for a server without them."""

    pid: int
    url: str
    health_url: str = ""
    orchestrate_url: str = ""

    def health(self) -> dict[str, object]:
        """What ``/health`` says; an unhealthy server answers 503 and says it all the same."""
        try:
            with urllib.request.urlopen(self.health_url, timeout=5) as answer:  # noqa: S310 - our own address
                body = answer.read()
        except urllib.error.HTTPError as refused:
            body = refused.read()
        return msgspec.json.decode(body, type=dict[str, object])


@contextlib.contextmanager
def antiphon(folder: Path, core: int | set[int], delays: Delays | None = None, workers: int = 1) -> Iterator[Server]:
    """Runs ``antiphon serve`` on these cores, with all that it writes in ``folder``. Raises ``RuntimeError``."""
    port = free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port, journal=folder / "journal.sqlite", delays=delays or Delays()))
    command = [program(), "serve", "--config", str(config)]
    if workers > 1:
        command += ["--workers", str(workers)]
    with started(command, core, folder, environment()) as process:
        at = f"127.0.0.1:{port}"
        server = Server(process.pid, f"ws://{at}/media-stream", f"http://{at}/health", f"ws://{at}/orchestrate")
        await_ready(process, server.health)
        yield server


def program() -> str:
    """The command beside this interpreter. Raises ``RuntimeError`` if it is not installed."""
    found = shutil.which("antiphon", path=str(Path(sys.executable).parent)) or shutil.which("antiphon")
    if found is None:
        raise RuntimeError("the antiphon command is not installed here: run pip install -e .")
    return found


def environment() -> dict[str, str]:
    """This process's, without what would change what is measured: settings, and a word against keeping bytecode, which
    every installation has. Where it is absent the first start writes it."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return own


@contextlib.contextmanager
def started(
    command: list[str], core: int | set[int], folder: Path, environ: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on ``core``, or on several, that is ended on the way out; an error below says the end of its log."""
    on = {core} if isinstance(core, int) else core
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, on),  # noqa: PLW1509 - this process has no threads
        )
        with _ending(process):
            try:
                yield process
            except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
                said = (folder / "server.log").read_text(errors="replace")[-3000:]
                state = "runs" if process.poll() is None else f"ended with status {process.returncode}"
                raise RuntimeError(f"{error}\nThe server {state}. Its log ends with:\n{said}") from error


def await_ready(process: subprocess.Popen[bytes], ask: Callable[[], object]) -> None:
    """Until ``ask`` is answered. Raises ``RuntimeError`` if the program ends, or is not ready in time."""
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        if process.poll() is not None:
            raise RuntimeError("the server did not start")
        try:
            ask()
        except (OSError, ValueError, msgspec.DecodeError):
            time.sleep(0.02)
        else:
            return
    raise RuntimeError(f"the server was not ready after {START_S:.0f} s")


@contextlib.contextmanager
def _ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends the process on the way out: politely, then not."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
