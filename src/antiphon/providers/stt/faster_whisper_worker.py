"""The process in which a Whisper model runs (the ``faster-whisper`` package, extra ``whisper``).

Two threads: one reads the pipe, answers pings and watches over the other, which loads the model and recognises one
utterance after the other. CTranslate2 lets go of the interpreter while it computes and while it loads, so pings are
answered through both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import soxr

from antiphon.providers.stt.faster_whisper_messages import (
    Audio,
    Begin,
    Failed,
    Final,
    Finish,
    Ready,
    Setup,
    ToWorker,
)
from antiphon.providers.stt.whisper_text import Segment, believed, confidence
from antiphon.providers.worker_pipe import SharedPipe, WorkerPipe, argument, settle

log = logging.getLogger(__name__)

RATE = 16_000
"""Hz; what Whisper hears."""

WINDOW_S = 29
"""A recording up to here fits into one of Whisper's windows, and needs no time stamps to get from one to the next."""

NICENESS = 5
"""The media path comes first."""

HUB = "Systran/faster-whisper-"
"""Where the models with short names ("small") come from, on the Hugging Face Hub."""

_decode = msgspec.msgpack.Decoder(ToWorker).decode
_encode = msgspec.msgpack.Encoder().encode


class Job:
    """One utterance."""

    __slots__ = ("dropped", "key", "language", "pcm", "rate")

    def __init__(self, begin: Begin) -> None:
        self.key = begin.key
        self.rate = begin.sample_rate
        self.language = begin.language
        self.pcm = bytearray()
        self.dropped = False


class Worker:
    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._jobs: dict[int, Job] = {}
        self._due: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._began = 0.0
        """When the utterance that is being recognised was begun; 0 while there is none."""
        self._stuck_s = 60.0

    def run(self) -> None:
        """Reads until the server is gone (``EOFError``)."""
        started = False
        while True:
            for message in self._pipe.read(None):  # pings come twice a second, so it returns as often
                if started:
                    self._take(_decode(message))
                else:
                    started = True
                    setup = msgspec.msgpack.decode(message, type=Setup)
                    self._stuck_s = setup.stuck_s
                    threading.Thread(target=self._compute, args=(setup,), daemon=True).start()
            if self._began and time.monotonic() - self._began > self._stuck_s:
                log.error("an utterance takes over %g s: the worker ends", self._stuck_s)
                os._exit(1)

    def _take(self, task: ToWorker) -> None:
        if isinstance(task, Begin):
            self._jobs[task.key] = Job(task)
            return
        job = self._jobs.get(task.key)
        if job is None:
            return
        if isinstance(task, Audio):
            job.pcm += task.pcm
        elif isinstance(task, Finish):
            self._due.put(job)
        else:
            job.dropped = True
            del self._jobs[task.key]

    def _compute(self, setup: Setup) -> None:
        """The other thread's whole life: nothing it raises may go unseen, or its callers would wait."""
        try:
            began = time.monotonic()
            model = load(setup)
            self._tell(Ready((time.monotonic() - began) * 1e3))
        except BadModel as error:
            self._tell(Failed(error.code, str(error)))
            return
        while True:
            job = self._due.get()
            if not job.dropped:
                self._began = time.monotonic()
                final = hear(model, setup, job)
                self._began = 0.0
                self._tell(final)
                self._jobs.pop(job.key, None)

    def _tell(self, report: Ready | Failed | Final) -> None:
        with contextlib.suppress(OSError):  # the server is gone, which the other thread notices
            self._pipe.send(_encode(report))


class BadModel(Exception):
    """The model cannot be loaded. ``code`` is stable."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def load(setup: Setup) -> Any:
    """The ``faster_whisper.WhisperModel``. Raises ``BadModel``."""
    if not setup.download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["OMP_NUM_THREADS"] = str(setup.threads)
    place = Path(setup.model).expanduser()
    is_path = place.is_dir() or setup.model.startswith(("/", ".", "~"))
    if is_path:
        _check_folder(place)
    try:
        return import_module("faster_whisper").WhisperModel(  # by name: it has no types
            str(place) if is_path else setup.model,
            device=setup.device,
            compute_type=setup.compute_type,
            cpu_threads=setup.threads,
            download_root=setup.folder or None,
            local_files_only=not setup.download,
        )
    except Exception as error:
        # The package and those below it raise whatever they like: ImportError, OSError, ValueError, RuntimeError ...
        raise _unloadable(setup, error, is_path) from error


def _check_folder(place: Path) -> None:
    """A folder without a tokenizer would have it fetched; one without a model says nothing that helps."""
    missing = [name for name in ("model.bin", "config.json", "tokenizer.json") if not (place / name).is_file()]
    if missing:
        raise BadModel(
            "stt.model_missing",
            f"{place} is no Whisper model of CTranslate2's format: {', '.join(missing)} is not there; fetch one with "
            f"`hf download {HUB}small --local-dir {place}`",
        )


def _unloadable(setup: Setup, error: Exception, is_path: bool) -> BadModel:
    told = " ".join(str(error).split())[:300]
    if is_path:
        return BadModel("stt.model_broken", f"the Whisper model in {setup.model} cannot be loaded: {told}")
    if isinstance(error, ValueError) and "size" in told:
        return BadModel("stt.model_missing", f"there is no Whisper model called {setup.model!r}: {told}")
    if isinstance(error, OSError) and not setup.download:
        repository = setup.model if "/" in setup.model else f"{HUB}{setup.model}"
        return BadModel(
            "stt.model_missing",
            f'the Whisper model {setup.model!r} is not on this machine: set download = "allowed" to have it fetched '
            f"once from the Hugging Face Hub, or fetch it with `hf download {repository} --local-dir <folder>` and set "
            "model to that folder",
        )
    return BadModel("stt.model_broken", f"the Whisper model {setup.model!r} cannot be had: {told}")


def hear(model: Any, setup: Setup, job: Job) -> Final:
    """Recognises one utterance. Raises nothing: one bad utterance must not take the model from the others."""
    try:
        language = job.language
        if not model.model.is_multilingual:
            if language not in {"", "en"}:
                return Final(job.key, error="stt.language", reason=f"{setup.model} hears English only, not {language}")
            language = "en"
        elif language and model.hf_tokenizer.token_to_id(f"<|{language}|>") is None:
            language = ""  # an older model, which does not have it
        found, info = model.transcribe(
            _samples(job),
            language=language or None,
            beam_size=setup.beam_size,
            temperature=0.0,  # trying again with chance costs as much time again, and makes words up
            condition_on_previous_text=False,
            without_timestamps=len(job.pcm) <= WINDOW_S * job.rate * 2,
            initial_prompt=setup.prompt or None,
            hotwords=setup.keywords or None,
            no_speech_threshold=setup.no_speech,
        )
        segments = [Segment(s.text, s.avg_logprob, s.no_speech_prob, s.compression_ratio) for s in found]
    except Exception as error:  # noqa: BLE001 - see above; the reason is told, and logged at the other end
        return Final(job.key, error="stt.failed", reason=f"{type(error).__name__}: {error}"[:300])
    spoken = believed(segments, setup.no_speech)
    text = " ".join(each.text.strip() for each in spoken).strip()
    if not text:
        return Final(job.key)
    return Final(
        job.key,
        text,
        info.language,
        confidence(spoken),
        0.0 if job.language else min(1.0, float(info.language_probability)),
    )


def _samples(job: Job) -> Any:
    """Samples of -1..1 at 16 kHz."""
    wave = np.frombuffer(bytes(job.pcm[: len(job.pcm) & ~1]), "<i2").astype(np.float32) / 32768.0
    return wave if job.rate == RATE else soxr.resample(wave, job.rate, RATE, quality="HQ")


def main() -> None:
    pipe = SharedPipe(argument())
    settle(int(sys.argv[1]))
    os.nice(NICENESS)
    try:
        Worker(pipe).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # not by the usual way, which would wait for the thread that computes


if __name__ == "__main__":
    main()
