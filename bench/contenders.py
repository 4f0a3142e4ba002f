"""Who is measured: the floor, Antiphon, and the peers; how each is started, and at how many calls.

All are given the same callers, the same providers and one core. What each waits for before it takes a turn as
ended is its own choice (``endpoint_ms``) and no cost; the rest is.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from antiphon.kernel.policy import Policy
from bench.peers import environment
from bench.server import Delays, Server, antiphon, await_ready, free_port, started

HERE = Path(__file__).parent
TRANSCRIPT = "what are admission requirements"
"""What the recogniser of all contenders hears."""


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """``calls``: concurrent calls of the steps that every round repeats; ``search``: among these the limit is sought.

    ``peer`` and ``variant`` choose the environment, and what its server is told.
    """

    name: str
    kind: Literal["floor", "antiphon", "peer"]
    calls: tuple[int, ...]
    search: tuple[int, ...] = ()
    endpoint_ms: float = 0.0
    peer: str = ""
    variant: str = ""

    @property
    def is_echo(self) -> bool:
        return self.kind == "floor"


FLOOR_CALLS = (10, 50, 200, 400, 600, 800)
CONTENDERS = (
    Contender(name="floor-c", kind="floor", calls=FLOOR_CALLS),
    Contender(name="floor-picows", kind="floor", calls=FLOOR_CALLS),
    Contender(
        name="antiphon",
        kind="antiphon",
        calls=(1, 10, 50, 200, 400, 600, 800),
        search=(100, 200, 300, 400, 500, 600, 700, 800, 900),
        endpoint_ms=float(Policy().endpoint_ms),
    ),
    # The turn detector waits for 0.3 s of silence (_STREAMING_ENDPOINTING_DEFAULTS), the mode "vad" for 0.5 s.
    Contender(
        name="livekit",
        kind="peer",
        calls=(1, 10, 30, 50),
        search=(10, 20, 30, 40, 50, 60, 70, 80, 100),
        endpoint_ms=300.0,
        peer="livekit",
    ),
    Contender(
        name="livekit-vad",
        kind="peer",
        calls=(10,),
        search=(20, 30, 40, 50, 60, 70, 80, 100),
        endpoint_ms=500.0,
        peer="livekit",
        variant="vad",
    ),
    # Silero's stop_secs of 0.2 s, then the turn model; without it, user_speech_timeout of 0.6 s on top.
    Contender(
        name="pipecat",
        kind="peer",
        calls=(1, 5, 10, 15),
        search=(5, 10, 15, 20, 25, 30, 40),
        endpoint_ms=200.0,
        peer="pipecat",
    ),
    Contender(
        name="pipecat-tuned",
        kind="peer",
        calls=(10,),
        search=(10, 15, 20, 25, 30, 35, 40, 50),
        endpoint_ms=800.0,
        peer="pipecat",
        variant="tuned",
    ),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}


@contextlib.contextmanager
def running(contender: Contender, folder: Path, core: int, delays: Delays | None = None) -> Iterator[Server]:
    """Starts its server on ``core``, writing into ``folder``. Raises ``RuntimeError`` if it does not start."""
    if contender.kind == "antiphon":
        with antiphon(folder, core, delays) as server:
            yield server
        return
    if contender.kind == "floor":
        command = [str(compiled())] if contender.name == "floor-c" else [sys.executable, str(HERE / "echo.py")]
        with started(command, core, folder) as process:
            said = folder / "server.log"
            await_ready(process, lambda: int(said.read_text()))
            yield Server(process.pid, f"ws://127.0.0.1:{int(said.read_text())}/")
        return
    port = free_port()
    with started(_peer_command(contender, port, delays or Delays()), core, folder) as process:
        await_ready(process, lambda: _connect(port))
        yield Server(process.pid, f"ws://127.0.0.1:{port}/ws")


def _peer_command(contender: Contender, port: int, delays: Delays) -> list[str]:
    told = {
        "port": port,
        "variant": contender.variant,
        "stt-ms": delays.stt_ms,
        "partial-ms": delays.partial_ms,
        "llm-ms": delays.llm_ms,
        "llm-token-ms": delays.llm_token_ms,
        "tts-ms": delays.tts_ms,
        "transcript": TRANSCRIPT,
        "reply": delays.reply,
    }
    script = HERE / "peers" / f"{contender.peer}_server.py"
    options = [f"--{name}={value}" for name, value in told.items()]
    return [str(environment.python_of(contender.peer)), str(script), *options]


def _connect(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        pass


def compiled() -> Path:
    """``floor/echo.c`` as a program, compiled when it is new. Raises ``RuntimeError`` without a C compiler."""
    source = HERE / "floor" / "echo.c"
    program = environment.FOLDER / f"echo-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}"
    if program.exists():
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise RuntimeError("the floor needs a C compiler (apt-get install gcc), or leave it out: --only antiphon")
    program.parent.mkdir(exist_ok=True)
    unfinished = program.with_suffix(".tmp")
    try:
        subprocess.run([compiler, "-O2", "-o", str(unfinished), str(source)], check=True)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(f"{source.name} does not compile: {error}") from error
    unfinished.rename(program)
    return program
