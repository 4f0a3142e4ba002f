"""From the sentences an application expects to a trigram language model in ARPA text.

The model mixes three sources: the application's own sentences, what anybody says on the telephone
(``phrases``), and single words of everyday English, so that a paraphrase is heard at least word by word.
Smoothing is Witten-Bell (I. H. Witten, T. C. Bell, "The zero-frequency problem", 1991), written as back-off:
it needs no held-out text and does well on a few hundred sentences.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

MAX_SENTENCES = 20_000
MAX_WORDS_A_SENTENCE = 60

_TOKEN = re.compile(r"\d+(?:st|nd|rd|th)\b|\d[\d,]*(?:\.\d+)?|[A-Za-z]+(?:['’][A-Za-z]+)*")
_DOTTED = re.compile(r"\b(?:[A-Za-z]\.){2,}|\b([A-Z])\.(?=[A-Z][a-z]+)")

_ONES = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_SIGNS = {"%": " percent ", "&": " and ", "₹": " rupees ", "$": " dollars ", "@": " at "}

_YEARS = range(1900, 2100)


def words(sentence: str) -> list[str]:
    """The words of a sentence as they are said: numbers in words, no punctuation, lower case but for acronyms.

    A word of two or more capitals (``MBA``, ``TOEFL``) keeps them, which tells how it may be pronounced.
    """
    for sign, said in _SIGNS.items():
        sentence = sentence.replace(sign, said)
    sentence = _DOTTED.sub(lambda match: match[0].replace(".", " " if match[1] else ""), sentence)
    found: list[str] = []
    for token in _TOKEN.findall(sentence):
        if token[0].isdigit():
            found += number_words(token)
        elif len(token) > 1 and token.isupper():
            found.append(token)
        else:
            found.append(token.lower().replace("’", "'"))
    return found[:MAX_WORDS_A_SENTENCE]


def number_words(token: str) -> list[str]:
    """``2025`` -> twenty twenty five, ``1,25,000`` -> one lakh twenty five thousand, ``3rd`` -> third, ``7.5``."""
    ordinal = token[-2:] in ("st", "nd", "rd", "th")
    whole, _, fraction = (token[:-2] if ordinal else token).replace(",", "").partition(".")
    value = int(whole)
    if len(whole) > 9:
        said = [_ONES[int(digit)] for digit in whole]
    elif not ordinal and "," not in token and not fraction and value in _YEARS and not 2000 <= value <= 2009:
        said = _cardinal(value // 100) + (_cardinal(value % 100) if value % 100 else ["hundred"])
    else:
        said = _cardinal(value)
    if fraction:
        said += ["point", *(_ONES[int(digit)] for digit in fraction[:6])]
    if ordinal:
        last = said[-1]
        said[-1] = _ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last + "th")
    return said


def _cardinal(value: int) -> list[str]:
    if value < 20:
        return [_ONES[value]]
    if value < 100:
        return [_TENS[value // 10], *([_ONES[value % 10]] if value % 10 else [])]
    for size, name in ((10_000_000, "crore"), (100_000, "lakh"), (1000, "thousand"), (100, "hundred")):
        if value >= size:
            rest = value % size
            return [*_cardinal(value // size), name, *(_cardinal(rest) if rest else [])]
    raise AssertionError(value)


Gram = tuple[str, ...]
Counts = defaultdict[Gram, float]


class TrigramModel:
    """Counts of sentences, and the ARPA text made of them."""

    def __init__(self) -> None:
        self._counts: tuple[Counts, Counts, Counts] = (defaultdict(float), defaultdict(float), defaultdict(float))

    def add(self, sentences: Iterable[list[str]], weight: float = 1.0) -> None:
        """Counts sentences (lists of words), each ``weight`` times."""
        ones, twos, threes = self._counts
        for sentence in sentences:
            padded = ["<s>", *sentence, "</s>"]
            for at in range(1, len(padded)):
                ones[(padded[at],)] += weight
                twos[tuple(padded[at - 1 : at + 1])] += weight
                if at > 1:
                    threes[tuple(padded[at - 2 : at + 1])] += weight

    @property
    def vocabulary(self) -> set[str]:
        return {word for (word,) in self._counts[0]} - {"</s>"}

    def arpa(self, background: Mapping[str, float], share: float) -> str:
        """The model as ARPA text (log10; Sphinx and most toolkits read it).

        ``background`` gives relative frequencies of single words, which get ``share`` (0..1) of the
        unigram probability; a word of the sentences that it lacks needs none.
        """
        ones, twos, threes = self._counts
        total = sum(ones.values()) or 1
        mass = sum(background.values()) or 1
        single = {word: (1 - share) * count / total for (word,), count in ones.items()}
        for word, frequency in background.items():
            single[word] = single.get(word, 0.0) + share * frequency / mass
        single.setdefault("</s>", share / 10)
        pair_p, pair_back = _witten_bell(twos, lambda gram: single[gram[-1]])
        triple_p, triple_back = _witten_bell(threes, lambda gram: pair_p[gram[1:]])
        lines = ["\\data\\", f"ngram 1={len(single) + 1}", f"ngram 2={len(pair_p)}", f"ngram 3={len(triple_p)}", ""]
        lines += ["\\1-grams:", f"-99.0000 <s> {_log(pair_back.get(('<s>',), 1.0))}"]
        lines += [f"{_log(p)} {word} {_log(pair_back.get((word,), 1.0))}" for word, p in sorted(single.items())]
        lines += ["", "\\2-grams:"]
        lines += [
            f"{_log(p)} {' '.join(gram)} {_log(triple_back.get(gram, 1.0))}" for gram, p in sorted(pair_p.items())
        ]
        lines += ["", "\\3-grams:"]
        lines += [f"{_log(p)} {' '.join(gram)}" for gram, p in sorted(triple_p.items())]
        return "\n".join([*lines, "", "\\end\\", ""])


def _witten_bell(counts: Counts, lower: Callable[[Gram], float]) -> tuple[dict[Gram, float], dict[Gram, float]]:
    """Probabilities of the grams counted, and the back-off weight of each history."""
    totals: Counts = defaultdict(float)
    kinds: Counter[Gram] = Counter()
    for gram, count in counts.items():
        totals[gram[:-1]] += count
        kinds[gram[:-1]] += 1
    probability = {}
    for gram, count in counts.items():
        history = gram[:-1]
        probability[gram] = (count + kinds[history] * lower(gram)) / (totals[history] + kinds[history])
    return probability, {history: kinds[history] / (totals[history] + kinds[history]) for history in totals}


def _log(probability: float) -> str:
    return f"{math.log10(max(probability, 1e-9)):.4f}"
