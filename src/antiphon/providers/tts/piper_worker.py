"""The worker process that speaks with Piper.

Piper is GPL-3 and brings an espeak-ng of its own, so it lives alone in this program, which is reached over a pipe.
A sentence may take a second, so a thread of its own reads the pipe: it answers pings and hears of cancelled requests.

What is used of ``piper-tts`` (1.8): ``PiperVoice``, ``PiperConfig``, ``SynthesisConfig``; a voice's ONNX model takes
``input``, ``input_lengths``, ``scales`` and, with several speakers, ``sid``, and gives the sound and, if it was made
so (``piper.patch_voice_with_alignment``), how long each phoneme lasts.
"""

from __future__ import annotations

import collections
import json
import os
import queue
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from antiphon.media.resample import RATES
from antiphon.providers.tts.speech_messages import Broken, Cancel, Done, Ready
from antiphon.providers.tts.utterance import Utterance
from antiphon.providers.worker_pipe import SharedPipe, WorkerPipe, argument, settle

if TYPE_CHECKING:
    from piper import AudioChunk, PiperVoice

WORD_END = " "
"""The phoneme between two words."""


class Speak(msgspec.Struct, array_like=True, tag=0):
    """``model`` is the path of one that was loaded; ``speaker`` -1 is the voice's own choice."""

    id: int
    text: str
    language: str
    model: str
    sample_rate: int
    speaker: int
    length_scale: float
    volume: float


class Load(msgspec.Struct, array_like=True, tag=2):
    """The first message: the models to load. ``threads``: how many compute one sentence."""

    models: list[str]
    threads: int


Request = Speak | Cancel | Load

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Request).decode


def load(model: str, threads: int) -> PiperVoice:
    """As ``PiperVoice.load`` does, but with a bounded number of threads. Raises what a bad file makes it raise."""
    import onnxruntime  # noqa: PLC0415 - optional, and half a second to load
    from piper import PiperConfig, PiperVoice  # noqa: PLC0415

    config = PiperConfig.from_dict(json.loads(Path(f"{model}.json").read_text(encoding="utf-8")))
    if config.sample_rate not in RATES:
        raise ValueError(f"a voice at {config.sample_rate} Hz, which is none of {RATES}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, sess_options=options, providers=["CPUExecutionProvider"])
    return PiperVoice(session=session, config=config)


class _Inbox(threading.Thread):
    """Reads the pipe: requests to speak wait in ``requests``, cancelled ones are in ``cancelled`` or never begin."""

    def __init__(self, pipe: WorkerPipe) -> None:
        super().__init__(name="inbox", daemon=True)
        self._pipe = pipe
        self.requests: queue.SimpleQueue[Speak | Load] = queue.SimpleQueue()
        self.cancelled: collections.deque[int] = collections.deque(maxlen=4096)

    def run(self) -> None:
        try:
            while True:
                for message in self._pipe.read(None):
                    request = _decode(message)
                    if isinstance(request, Cancel):
                        self.cancelled.append(request.id)
                    else:
                        self.requests.put(request)
        except (EOFError, OSError):
            os._exit(0)  # the server is gone, whatever is being computed


class _Server:
    def __init__(self, pipe: WorkerPipe) -> None:
        self._pipe = pipe
        self._inbox = _Inbox(pipe)
        self._voices: dict[str, PiperVoice] = {}

    def run(self) -> None:
        self._inbox.start()
        while True:
            request = self._inbox.requests.get()
            if isinstance(request, Load):
                self._load(request)
            elif request.id in self._inbox.cancelled:
                self._pipe.send(_encode(Done(request.id)))
            else:
                self._speak(request)

    def _load(self, wanted: Load) -> None:
        for model in wanted.models:
            try:
                voice = self._voices[model] = load(model, wanted.threads)
                # The first sentence takes several times as long, and a model that is none of Piper's fails here.
                collections.deque(voice.synthesize("a"), maxlen=0)
            except Exception as error:  # noqa: BLE001 - onnxruntime raises several of its own for a bad file
                self._pipe.send(_encode(Broken(f"[tts] piper: {model} is no Piper voice: {_brief(error)}")))
                return
        self._pipe.send(_encode(Ready()))

    def _speak(self, speak: Speak) -> None:
        voice = self._voices[speak.model]
        utterance = Utterance(
            speak.id,
            # Piper takes [[...]] for phonemes.
            speak.text.replace("[[", "  ").replace("]]", "  "),
            language=speak.language,
            engine_rate=voice.config.sample_rate,
            sample_rate=speak.sample_rate,
            pipe=self._pipe,
            pauses={},
        )
        code = reason = ""
        if any(map(str.isalnum, utterance.text)):
            try:
                self._say(voice, speak, utterance)
            except (BrokenPipeError, ConnectionResetError):
                raise
            except Exception as error:  # noqa: BLE001 - what a model or the phonemizer raises is this request's failure
                code, reason = "tts.failed", f"Piper failed: {_brief(error)}"
        self._pipe.send(_encode(Done(speak.id, code, reason)))

    def _say(self, voice: PiperVoice, speak: Speak, utterance: Utterance) -> None:
        from piper import SynthesisConfig  # noqa: PLC0415 - optional

        config = SynthesisConfig(
            speaker_id=speak.speaker if speak.speaker >= 0 else None,
            length_scale=voice.config.length_scale * speak.length_scale,
            volume=speak.volume,
        )
        starts = word_positions(utterance.text, words_of(voice, utterance.text))
        aligned = len(voice.session.get_outputs()) > 1
        samples = 0
        for chunk in voice.synthesize(utterance.text, config, include_alignments=aligned):
            if speak.id in self._inbox.cancelled:
                return
            for at in word_samples(chunk):
                position = next(starts, None)
                if position is not None:
                    utterance.word(position, samples + at)
            utterance.sound(chunk.audio_int16_bytes)
            samples += len(chunk.audio_float_array)
        utterance.finish()


def words_of(voice: PiperVoice, text: str) -> int:
    """How many words Piper hears in ``text``; 0 for a voice that does not tell when they begin."""
    if len(voice.session.get_outputs()) < 2:
        return 0
    return sum(1 + sentence.count(WORD_END) for sentence in voice.phonemize(text) if sentence)


def word_positions(text: str, heard: int) -> Iterator[int]:
    """Where the words of ``text`` begin, if it has as many as were heard: a number may be spoken as several."""
    starts = [at for at, sign in enumerate(text) if not sign.isspace() and (at == 0 or text[at - 1].isspace())]
    return iter(starts if len(starts) == heard else ())


def word_samples(chunk: AudioChunk) -> Iterator[int]:
    """Where the words of a sentence begin, in samples of its sound; nothing if the voice does not tell."""
    alignments: list[Any] = chunk.phoneme_alignments or []
    at, begins = 0, True
    for number, each in enumerate(islice(alignments, max(0, len(alignments) - 1))):
        if number == 0:  # the sign that begins a sentence
            at += each.num_samples
            continue
        if begins:
            yield at
        begins = each.phoneme == WORD_END
        at += each.num_samples


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def main() -> None:
    pipe = SharedPipe(argument())
    settle(int(sys.argv[1]))
    try:
        _Server(pipe).run()
    except (BrokenPipeError, ConnectionResetError):
        return  # the server is gone, or wants no more of us


if __name__ == "__main__":
    main()
