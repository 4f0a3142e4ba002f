"""The processes that listen: a nursery that loads the models once, and the workers it forks.

A decoder holds Python's lock while it computes, so it cannot live in the server. The nursery loads the
acoustic model, the dictionary and the language model into ``decoders`` decoders; a fork shares them all, is
ready within milliseconds and costs a few megabytes of its own. The nursery also kills and reaps its
children, so that no process id is ever used after its end.

A worker decodes utterances of many calls piece by piece in turn, those that were finished first.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pocketsphinx
import soxr

from antiphon.providers.stt import lexicon
from antiphon.providers.stt.pocketsphinx_messages import (
    Begin,
    Drop,
    Failed,
    Final,
    Finish,
    Fork,
    Forked,
    Loaded,
    Partial,
    Setup,
    ToNursery,
    ToWorker,
)
from antiphon.providers.worker_pipe import WorkerPipe, framed, from_arguments, settle

DECODER_RATE = 16_000

MAX_UTTERANCE_S = 60
"""What comes after this much of one utterance is not listened to: the search's memory grows with time."""

MAX_DECODERS = 48
"""Utterances at once in one worker; more are refused. Far more than a core decodes in real time."""

PARTIAL_MS = 120
"""Between two looks at the hypothesis of an utterance."""

DITHER = 30.0
"""Standard deviation of the noise added to every sample (-61 dBFS).

Digital silence between words has no spectrum to normalise. On synthetic voices over mu-law it cut the word
error rate of known sentences from over 60 to under 20 per cent.
"""

NARROW_CMN = "43.31,28.45,-40.43,42.74,-22.64,-3.10,12.47,-29.53,17.75,-13.00,2.21,7.07,-10.88"
WIDE_CMN = "55.09,-1.15,-4.74,10.04,-9.45,-0.03,-8.49,-7.32,0.95,-5.90,3.86,-3.68,-0.80"
"""Cepstral means a call begins with: of five synthetic voices over mu-law at 8 kHz, of three at 16 kHz, at about
-20 dBFS. Wrong ones cost dearly: 16 kHz speech begun with the narrow mean had 24 to 96 words of 100 wrong, not 3.
"""

SEARCH = {
    "fwdflat": False,  # a second pass over the whole utterance: 60 ms after its end for nothing measurable
    "bestpath": False,
    "pl_window": 0,  # phoneme look-ahead prunes words that a narrow band made unlikely
    "lw": 10.0,
}

EVEN_NATS, SPREAD_NATS = -3.8, 0.8
"""Where confidence is one half, and its slope. Of 130 synthetic utterances over mu-law, those with at least
80 per cent of the words right had a median of 0.9, those with less than half of them right 0.2."""

NICENESS = 2
"""The server's loop, which paces audio, goes first."""


_encode = msgspec.msgpack.Encoder().encode
_decode_order = msgspec.msgpack.Decoder(ToNursery).decode
_decode_task = msgspec.msgpack.Decoder(ToWorker).decode


class Decoders:
    """A stock of decoders over one set of models."""

    def __init__(self, arpa: Path, dictionary: Path, model: Path) -> None:
        self._config: dict[str, Any] = {
            "hmm": str(model / "en-us"),
            "dict": str(dictionary),
            "lm": str(arpa),
            "loglevel": "FATAL",
            **SEARCH,
        }
        self._free: list[Any] = []
        self.lent = 0

    def grow(self) -> None:
        """Makes one more (15 to 20 ms) and runs it once, so that what it allocates at first is there."""
        decoder = pocketsphinx.Decoder(pocketsphinx.Config(**self._config))
        decoder.start_utt()
        decoder.process_raw(_noise(DECODER_RATE // 5).astype("<i2").tobytes())
        decoder.end_utt()
        self._free.append(decoder)

    @property
    def spare(self) -> int:
        return len(self._free)

    def lend(self) -> Any | None:
        """A decoder, or ``None`` when ``MAX_DECODERS`` are lent."""
        if self.lent >= MAX_DECODERS:
            return None
        if not self._free:
            self.grow()
        self.lent += 1
        return self._free.pop()

    def give_back(self, decoder: Any | None) -> None:
        """``None`` stands for a decoder that failed and is thrown away."""
        self.lent -= 1
        if decoder is not None:
            self._free.append(decoder)


def _noise(samples: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The same noise every time: what is heard must not depend on chance."""
    return np.random.default_rng(8004).normal(0.0, DITHER, samples).astype(np.float32)


class Decoding:
    """One utterance in a decoder: audio in, hypotheses out."""

    def __init__(self, begin: Begin, decoder: Any) -> None:
        self.key = begin.key
        self.decoder = decoder
        self.finished = False
        self.waiting: collections.deque[bytes] = collections.deque()
        self._second = begin.sample_rate * 2
        self._taken = 0
        self._heard_bytes = 0
        self._looked_bytes = 0
        self._text = ""
        self._dither = _DITHER
        self._dither_at = 0
        self._resampler = None
        if begin.sample_rate != DECODER_RATE:
            self._resampler = soxr.ResampleStream(begin.sample_rate, DECODER_RATE, 1, dtype="float32", quality="HQ")
        _forget(decoder)
        decoder.set_cmn(begin.cmn or (NARROW_CMN if begin.sample_rate < DECODER_RATE else WIDE_CMN))
        decoder.start_utt()

    def take(self, pcm: bytes) -> None:
        """Queues audio, up to ``MAX_UTTERANCE_S`` of it in all."""
        pcm = pcm[: MAX_UTTERANCE_S * self._second - self._taken]
        if pcm:
            self._taken += len(pcm)
            self.waiting.append(pcm)

    def step(self) -> Partial | None:
        """Decodes one waiting piece. Raises ``RuntimeError`` when the decoder fails."""
        pcm = self.waiting.popleft()
        self._heard_bytes += len(pcm)
        self._hear(pcm, last=False)
        new_ms = (self._heard_bytes - self._looked_bytes) * 1000 // self._second
        if self.finished or new_ms < PARTIAL_MS:
            return None
        self._looked_bytes = self._heard_bytes
        text, confidence = _hypothesis(self.decoder)
        if text == self._text:
            return None
        self._text = text
        return Partial(self.key, text, confidence)

    def end(self) -> Final:
        """Raises ``RuntimeError`` when the decoder fails."""
        if self._resampler is not None:
            self._hear(b"", last=True)
        self.decoder.end_utt()
        text, confidence = _hypothesis(self.decoder)
        return Final(self.key, text, confidence, self.decoder.get_cmn())

    def _hear(self, pcm: bytes, *, last: bool) -> None:
        wave = np.frombuffer(pcm, "<i2", count=len(pcm) // 2).astype(np.float32)
        if self._dither_at + len(wave) > len(self._dither):
            self._dither_at = 0
        wave += self._dither[self._dither_at : self._dither_at + len(wave)]
        self._dither_at += len(wave)
        if self._resampler is not None:
            wave = self._resampler.resample_chunk(wave, last)
        data = np.rint(wave).clip(-32768, 32767).astype("<i2").tobytes()
        if data:  # process_raw raises for nothing at all
            self.decoder.process_raw(data)


_DITHER = _noise(2 * 48_000)


def _forget(decoder: Any) -> None:
    """Resets the noise tracker, or a call would be heard differently after another one's noise.

    The binding calls ``start_stream`` unnecessary, which holds where a decoder has one stream all its life.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        decoder.start_stream()


def _hypothesis(decoder: Any) -> tuple[str, float]:
    """The words so far and how far they can be trusted.

    Without a word lattice there are no posteriors. What tells good from bad here is how much the language
    model had to give way to the sound: the mean log probability of the words, as a point on a logistic curve.
    """
    words: list[str] = []
    total = 0.0
    for segment in decoder.seg() or ():
        if segment.word[0] not in "<[":
            words.append(segment.word.partition("(")[0])
            # The search keeps log scores divided by 1024; the binding gives back their exponential.
            total += math.log(max(segment.lscore, 1e-300)) * 1024
    if not words:
        return "", 0.0
    nats_a_word = total / SEARCH["lw"] / len(words)
    return " ".join(words), round(1 / (1 + math.exp((EVEN_NATS - nats_a_word) / SPREAD_NATS)), 3)


class Worker:
    """Serves one pipe until it ends."""

    def __init__(self, pipe: WorkerPipe, decoders: Decoders) -> None:
        self._pipe = pipe
        self._decoders = decoders
        self._utterances: collections.OrderedDict[int, Decoding] = collections.OrderedDict()

    def run(self) -> None:
        while True:
            busy = any(each.waiting or each.finished for each in self._utterances.values())
            starving = not busy and not self._decoders.spare and self._decoders.lent < MAX_DECODERS
            messages = self._pipe.read(0 if busy or starving else None)
            for message in messages:
                self._take(_decode_task(message))
            if busy:
                self._step()
            elif starving and not messages:
                self._decoders.grow()

    def _take(self, task: ToWorker) -> None:
        if isinstance(task, Begin):
            decoder = self._decoders.lend()
            if decoder is None:
                self._pipe.send(_encode(Final(task.key, error="stt.overloaded")))
            else:
                self._utterances[task.key] = Decoding(task, decoder)
            return
        utterance = self._utterances.get(task.key)
        if utterance is None:
            return  # given up already
        if isinstance(task, Finish):
            utterance.finished = True
        elif isinstance(task, Drop):
            self._abandon(utterance)
        else:
            utterance.take(task.pcm)

    def _step(self) -> None:
        ready = [each for each in self._utterances.values() if each.waiting or each.finished]
        if not ready:
            return
        utterance = next((each for each in ready if each.finished), ready[0])
        try:
            if utterance.waiting:
                self._utterances.move_to_end(utterance.key)
                partial = utterance.step()
                if partial is not None:
                    self._pipe.send(_encode(partial))
            else:
                final = utterance.end()
                self._pipe.send(_encode(final))
                self._decoders.give_back(utterance.decoder)
                del self._utterances[utterance.key]
        except RuntimeError:
            del self._utterances[utterance.key]
            self._decoders.give_back(None)
            self._pipe.send(_encode(Final(utterance.key, error="stt.failed")))

    def _abandon(self, utterance: Decoding) -> None:
        del self._utterances[utterance.key]
        try:
            utterance.decoder.end_utt()
        except RuntimeError:
            self._decoders.give_back(None)
        else:
            self._decoders.give_back(utterance.decoder)


class Nursery:
    """Holds the models, forks workers, buries them."""

    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._children: set[int] = set()
        self._decoders: Decoders

    def run(self) -> None:
        """Until the server lets go of the pipe."""
        pending = self._pipe.read(None)
        while not pending:
            pending = self._pipe.read(None)
        setup = msgspec.msgpack.decode(pending.pop(0), type=Setup)
        try:
            self._pipe.send(_encode(self._load(setup)))
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            self._pipe.send(_encode(Failed(f"pocketsphinx cannot load its models: {error}")))
            return
        signal.signal(signal.SIGCHLD, self._reap)
        try:
            while True:
                for message in pending:
                    order = _decode_order(message)
                    if isinstance(order, Fork):
                        self._fork()
                    elif order.pid in self._children:
                        os.kill(order.pid, signal.SIGKILL)
                pending = self._pipe.read(None)
        finally:
            for pid in tuple(self._children):
                os.kill(pid, signal.SIGKILL)

    def _load(self, setup: Setup) -> Loaded:
        model = Path(pocketsphinx.get_model_path("en-us"))
        began = time.perf_counter()
        arpa, dictionary = lexicon.files(
            setup.phrases, model=model, background_words=setup.background_words, cache=setup.cache
        )
        made = time.perf_counter()
        self._decoders = Decoders(arpa, dictionary, model)
        for _ in range(setup.decoders):
            self._decoders.grow()
        return Loaded((made - began) * 1e3, (time.perf_counter() - made) * 1e3)

    def _fork(self) -> None:
        theirs, ours = socket.socketpair()
        parent = os.getpid()
        # The signal may not come between the fork and the note of the child, or a quick death would be missed.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(parent, ours, theirs)
            self._children.add(pid)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        ours.close()
        socket.send_fds(self._pipe.socket, [framed(_encode(Forked(pid)))], [theirs.fileno()])
        theirs.close()

    def _be_worker(self, parent: int, ours: socket.socket, theirs: socket.socket) -> None:
        """The child's whole life: it must never return into the nursery's loop."""
        status = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            self._pipe.close()
            theirs.close()
            settle(parent)
            Worker(WorkerPipe(ours), self._decoders).run()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            status = 0  # the server is gone, or wants no more of us
        finally:
            os._exit(status)

    def _reap(self, *_: object) -> None:
        for pid in tuple(self._children):
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._children.discard(pid)


def main() -> None:
    pipe = from_arguments()
    settle(int(sys.argv[1]))
    os.nice(NICENESS)
    try:
        Nursery(pipe).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


if __name__ == "__main__":
    main()
