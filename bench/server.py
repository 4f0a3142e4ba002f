"""The server under test: started as a user starts it, pinned to one core, with fake providers that take no time."""

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
from collections.abc import Iterator
from pathlib import Path

import msgspec

from antiphon.kernel.policy import Policy

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

[intent]
provider = "fake"

[retrieval]
provider = "fake"

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
    delivery: str = "tokens"
    speculate: str = "true"
    reply: str = "You need a school certificate and a language test."


class Server(msgspec.Struct, frozen=True):
    """``url`` is the media socket's; ``health_url`` is empty for a server without one."""

    pid: int
    url: str
    health_url: str = ""

    def health(self) -> dict[str, object]:
        """What ``/health`` says; an unhealthy server answers 503 and says it all the same."""
        try:
            with urllib.request.urlopen(self.health_url, timeout=5) as answer:  # noqa: S310 - our own address
                body = answer.read()
        except urllib.error.HTTPError as refused:
            body = refused.read()
        return msgspec.json.decode(body, type=dict[str, object])


def endpoint_ms() -> float:
    """The endpointing delay that the server is configured with (its default)."""
    return float(Policy().endpoint_ms)


@contextlib.contextmanager
def antiphon(folder: Path, core: int, delays: Delays | None = None) -> Iterator[Server]:
    """Runs ``antiphon serve`` on ``core`` with everything it writes in ``folder``. Raises ``RuntimeError``."""
    port = _free_port()
    config = folder / "bench.toml"
    config.write_text(CONFIG.format(port=port, journal=folder / "journal.sqlite", delays=delays or Delays()))
    program = shutil.which("antiphon", path=str(Path(sys.executable).parent)) or shutil.which("antiphon")
    if program is None:
        raise RuntimeError("the antiphon command is not installed here: run pip install -e .")
    # Settings from the environment would change what is measured.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [program, "serve", "--config", str(config)],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - this process has no threads
        )
        server = Server(process.pid, f"ws://127.0.0.1:{port}/media-stream", f"http://127.0.0.1:{port}/health")
        with _ending(process):
            try:
                _wait_until_healthy(process, server)
                yield server
            except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
                said = (folder / "server.log").read_text(errors="replace")[-3000:]
                state = "runs" if process.poll() is None else f"ended with status {process.returncode}"
                raise RuntimeError(f"{error}\nThe server {state}. Its log ends with:\n{said}") from error


@contextlib.contextmanager
def echo(core: int) -> Iterator[Server]:
    """Runs the floor (``bench.echo``) on ``core``."""
    process = subprocess.Popen([sys.executable, "-m", "bench.echo", str(core)], stdout=subprocess.PIPE)
    with _ending(process):
        assert process.stdout is not None
        port = int(process.stdout.readline() or 0)
        if not port:
            raise RuntimeError("the echo server did not start")
        yield Server(process.pid, f"ws://127.0.0.1:{port}/")


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
        if process.stdout is not None:
            process.stdout.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(process: subprocess.Popen[bytes], server: Server) -> None:
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        if process.poll() is not None:
            raise RuntimeError("the server did not start")
        try:
            server.health()
        except (OSError, msgspec.DecodeError):
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"the server was not ready after {START_S:.0f} s")
