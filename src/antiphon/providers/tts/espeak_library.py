"""espeak-ng through ctypes, after its ``speak_lib.h`` (1.52). Never imported by the server.

The library is GPL-3, keeps its state in globals and is not thread-safe: only programs that do nothing else may
load it. ``espeak_worker`` is one. This module, run by itself, is the other::

    python -m antiphon.providers.tts.espeak_library < words > ipa

It reads words, one a line, and writes how they are pronounced, one a line, which is how the speech recogniser
learns to hear words that no dictionary has.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

UTF8 = 1  # espeakCHARS_UTF8
WORD_EVENT = 1  # espeakEVENT_WORD
_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_RATE, _PITCH = 1, 3  # espeak_PARAMETER
_IPA_SPACED = 0x02 | (ord(" ") << 8)  # phonememode: IPA, phonemes apart


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


class _Voice(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("languages", ctypes.c_void_p),  # a byte of priority, a string, ... , a byte 0
        ("identifier", ctypes.c_char_p),
        ("gender", ctypes.c_ubyte),
        ("age", ctypes.c_ubyte),
        ("variant", ctypes.c_ubyte),
        ("xx1", ctypes.c_ubyte),
        ("score", ctypes.c_int),
        ("spare", ctypes.c_void_p),
    )


Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


class Unspeakable(Exception):
    """This request cannot be spoken, now or later."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Espeak:
    """The library, initialised: at most once in a process."""

    def __init__(self) -> None:
        import espeakng_loader  # noqa: PLC0415 - optional, and only a process of its own may load it

        data = Path(espeakng_loader.get_data_path())
        self.library: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        self.sample_rate: int = self.library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DONT_EXIT)
        if self.sample_rate <= 0:
            raise OSError(f"espeak-ng cannot read its data in {data}")
        self.library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        self.library.espeak_ListVoices.restype = ctypes.POINTER(ctypes.POINTER(_Voice))
        self.variants = {path.name.lower(): path.name for path in (data / "voices" / "!v").iterdir()}
        self.names: dict[str, str] = {}
        """From a language, an identifier's last part or a voice's name, all in lower case, to what loads it."""
        self._list_voices()
        self._voice = ""

    def _list_voices(self) -> None:
        voices = self.library.espeak_ListVoices(None)
        at = 0
        while voices[at]:
            voice = voices[at].contents
            at += 1
            file = voice.identifier.decode().rpartition("/")[2]
            languages = []
            pointer = voice.languages
            while ctypes.string_at(pointer, 1) != b"\0":
                language = ctypes.string_at(pointer + 1)
                languages.append(language.decode().lower())
                pointer += 2 + len(language)
            for name in (*languages, file.lower(), voice.name.decode().lower()):
                self.names.setdefault(name, file)

    def choose(self, language: str, voice: str) -> str:
        """The file name (with ``+variant``) for a request. Raises ``Unspeakable``."""
        name, plus, variant = voice.lower().partition("+")
        if plus and variant not in self.variants:
            message = f"espeak-ng has no variant {variant!r} of a voice: it has f1 to f5, m1 to m8, edward and others"
            raise Unspeakable("tts.voice", message)
        variant = plus and plus + self.variants[variant]
        if name:
            if name not in self.names:
                raise Unspeakable("tts.voice", f"espeak-ng has no voice {name!r}: name a language or one of its voices")
            return self.names[name] + variant
        tag = language.lower().replace("_", "-")
        while tag and tag not in self.names:
            tag = tag.rpartition("-")[0]
        if not tag:
            raise Unspeakable("tts.language", f"espeak-ng does not speak {language!r}")
        return self.names[tag] + variant

    def use(self, file: str, rate_wpm: int, pitch: int) -> None:
        if file != self._voice:
            if self.library.espeak_SetVoiceByName(file.encode()) != 0:
                raise Unspeakable("tts.voice", f"espeak-ng cannot load the voice {file!r}")
            self._voice = file
        self.library.espeak_SetParameter(_RATE, rate_wpm, 0)
        self.library.espeak_SetParameter(_PITCH, pitch, 0)

    def phonemes(self, word: str) -> str:
        """IPA, phonemes apart by spaces, in the present voice."""
        text = ctypes.c_char_p(word.encode())
        parts = []
        while text.value:
            part = self.library.espeak_TextToPhonemes(ctypes.byref(text), UTF8, _IPA_SPACED)
            if part:
                parts.append(part.decode())
        return " ".join(parts)


def main() -> None:
    espeak = Espeak()
    espeak.use(espeak.choose("en-us", ""), 175, 50)
    for line in sys.stdin:
        sys.stdout.write(espeak.phonemes(line.strip()) + "\n")


if __name__ == "__main__":
    main()
