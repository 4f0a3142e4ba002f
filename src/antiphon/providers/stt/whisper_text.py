"""What Whisper models say about an utterance, and what of it is believed. No I/O.

Sources: the OpenAI API reference, "Create transcription" (``verbose_json``: ``avg_logprob``, ``no_speech_prob`` and
``compression_ratio`` of each segment, and what values mean a failure); the defaults of Whisper's own ``transcribe``
(``no_speech_threshold`` 0.6, ``logprob_threshold`` -1.0, ``compression_ratio_threshold`` 2.4); the names of the
languages are those of Whisper's tokenizer, which ``verbose_json`` answers with.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

import msgspec

UNSURE = -1.0
"""A segment's ``avg_logprob`` below which Whisper itself takes it for failed."""

LOOPING = 2.4
"""A ``compression_ratio`` above this: the same words over and over."""

SURELY_SILENT = 0.9
"""A ``no_speech_prob`` above this is believed whatever the model thinks of its words.

What it makes up out of noise ("Thank you for watching") it has often learned so well that it is sure of it.
"""

REGION = {base: f"{base}-IN" for base in ("as", "bn", "en", "gu", "hi", "kn", "ml", "mr", "or", "pa", "ta", "te")}
"""Which tag is meant by a language without a region, unless the call or the settings name another."""

_NAMES = """
afrikaans:af albanian:sq amharic:am arabic:ar armenian:hy assamese:as azerbaijani:az bashkir:ba basque:eu
belarusian:be bengali:bn bosnian:bs breton:br bulgarian:bg burmese:my cantonese:yue catalan:ca chinese:zh
croatian:hr czech:cs danish:da dutch:nl english:en estonian:et faroese:fo finnish:fi french:fr galician:gl
georgian:ka german:de greek:el gujarati:gu haitian_creole:ht hausa:ha hawaiian:haw hebrew:he hindi:hi
hungarian:hu icelandic:is indonesian:id italian:it japanese:ja javanese:jw kannada:kn kazakh:kk khmer:km
korean:ko lao:lo latin:la latvian:lv lingala:ln lithuanian:lt luxembourgish:lb macedonian:mk malagasy:mg
malay:ms malayalam:ml maltese:mt maori:mi marathi:mr mongolian:mn myanmar:my nepali:ne norwegian:no
nynorsk:nn occitan:oc pashto:ps persian:fa polish:pl portuguese:pt punjabi:pa romanian:ro russian:ru
sanskrit:sa serbian:sr shona:sn sindhi:sd sinhala:si slovak:sk slovenian:sl somali:so spanish:es
sundanese:su swahili:sw swedish:sv tagalog:tl tajik:tg tamil:ta tatar:tt telugu:te thai:th tibetan:bo
turkish:tr turkmen:tk ukrainian:uk urdu:ur uzbek:uz vietnamese:vi welsh:cy yiddish:yi yoruba:yo
"""

NAMES: dict[str, str] = dict(re.findall(r"(\w+):(\w+)", _NAMES))
"""Whisper's names of languages and its codes: ISO 639-1, and three letters where there are no two."""

CODES = frozenset(NAMES.values())


def code_of(tag: str) -> str:
    """What Whisper calls the language of a BCP 47 tag ("hi-IN" is "hi"); "" for one that it does not know."""
    base = tag.partition("-")[0].lower()
    return base if base in CODES else ""


def tag_of(said: str, expected: Iterable[str] = ()) -> str:
    """The BCP 47 tag for a name or code that was answered: "hindi", "Hindi" and "hi" are hi-IN.

    ``expected`` are the tags of the call and of the settings: the first of the same language is meant. What is
    neither a known name nor looks like a code gives "".
    """
    word = said.strip().lower().replace(" ", "_")
    base = NAMES.get(word, word.partition("-")[0])
    if base not in CODES and not re.fullmatch("[a-z]{2,3}", base):
        return ""
    for tag in expected:
        if tag.partition("-")[0].lower() == base:
            return tag
    return REGION.get(base, base)


class Segment(msgspec.Struct):
    """A stretch of the utterance. Servers leave out what they do not know."""

    text: str = ""
    avg_logprob: float | None = None
    no_speech_prob: float | None = None
    compression_ratio: float | None = None


def believed(segments: Sequence[Segment], no_speech: float) -> tuple[Segment, ...]:
    """The segments that were spoken. ``no_speech``: above this ``no_speech_prob`` silence is suspected (1: never)."""
    return tuple(segment for segment in segments if not _made_up(segment, no_speech))


def _made_up(segment: Segment, no_speech: float) -> bool:
    silence, sure = segment.no_speech_prob or 0.0, segment.avg_logprob
    if silence > max(no_speech, SURELY_SILENT):
        return True
    if silence > no_speech and sure is not None and sure < UNSURE:
        return True
    return (segment.compression_ratio or 0.0) > LOOPING


def confidence(segments: Sequence[Segment]) -> float:
    """The mean probability of a token, 0..1, longer segments counting for more; 0 where it is not known."""
    known = [(each.avg_logprob, max(1, len(each.text))) for each in segments if each.avg_logprob is not None]
    return mean_probability(known)


def mean_probability(logs: Iterable[tuple[float, float]]) -> float:
    """The geometric mean of probabilities given as (natural logarithm, weight), within 0..1; 0 for none."""
    weighed = [(log, weight) for log, weight in logs if math.isfinite(log)]
    total = sum(weight for _, weight in weighed)
    return math.exp(min(0.0, sum(log * weight for log, weight in weighed) / total)) if total else 0.0
