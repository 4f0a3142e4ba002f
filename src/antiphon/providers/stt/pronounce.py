"""How a word is pronounced, in the phones (ARPAbet without stress) of the English acoustic model.

A word is looked up in the dictionary first; what it lacks is spoken by espeak-ng to itself (IPA) and mapped
here; an acronym may also be spelled out.
"""

from __future__ import annotations

from collections.abc import Mapping

_IPA = {
    # two signs
    "tʃ": "CH",
    "dʒ": "JH",
    "aɪ": "AY",
    "aʊ": "AW",
    "ɔɪ": "OY",
    "eɪ": "EY",
    "oʊ": "OW",
    "əʊ": "OW",
    "ɜː": "ER",
    "iː": "IY",
    "uː": "UW",
    "ɑː": "AA",
    "ɔː": "AO",
    "aː": "AA",
    "oː": "AO",
    "eː": "EH",
    "ɪɹ": "IH R",
    "ʊɹ": "UH R",
    "ɛɹ": "EH R",
    "ɔːɹ": "AO R",
    "ɑːɹ": "AA R",
    "aɪɚ": "AY ER",
    "aɪə": "AY AH",
    "əl": "AH L",
    "iə": "IY AH",
    # vowels
    "æ": "AE",
    "ɐ": "AH",
    "ʌ": "AH",
    "ə": "AH",
    "ɚ": "ER",
    "ɜ": "ER",
    "ɝ": "ER",
    "ɛ": "EH",
    "e": "EY",
    "ɪ": "IH",
    "i": "IY",
    "ʊ": "UH",
    "u": "UW",
    "ɑ": "AA",
    "a": "AA",
    "ɒ": "AA",
    "ɔ": "AO",
    "o": "OW",
    "ᵻ": "IH",
    "ɨ": "IH",
    "y": "UW",
    "ø": "ER",
    "œ": "ER",
    # consonants
    "p": "P",
    "b": "B",
    "t": "T",
    "d": "D",
    "k": "K",
    "g": "G",
    "ɡ": "G",
    "f": "F",
    "v": "V",
    "θ": "TH",
    "ð": "DH",
    "s": "S",
    "z": "Z",
    "ʃ": "SH",
    "ʒ": "ZH",
    "h": "HH",
    "x": "K",
    "m": "M",
    "n": "N",
    "ŋ": "NG",
    "l": "L",
    "ɫ": "L",
    "ɹ": "R",
    "r": "R",
    "ɾ": "T",
    "ɽ": "R",
    "j": "Y",
    "w": "W",
    "ʍ": "W",
    "ʔ": "T",
    "c": "K",
    "ɟ": "G",
    "ɲ": "N",
    "ʈ": "T",
    "ɖ": "D",
    "ɳ": "N",
    "ɭ": "L",
    "ʋ": "V",
    "ç": "HH",
    "β": "V",
    "ʂ": "SH",
    "ɬ": "L",
}
_LONGEST = max(map(len, _IPA))
_IGNORED = str.maketrans("", "", "ˈˌ̩̃ʲʰ̪-ˑ ")

LETTERS = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY",
    "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW",
    "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S",
    "y": "W AY", "z": "Z IY",
}  # fmt: skip


def arpabet(ipa: str) -> str:
    """Phones of IPA text as espeak-ng writes it, longest match first; unknown signs are left out."""
    text = ipa.translate(_IGNORED)
    phones: list[str] = []
    at = 0
    while at < len(text):
        for length in range(_LONGEST, 0, -1):
            phone = _IPA.get(text[at : at + length])
            if phone:
                phones.append(phone)
                at += length
                break
        else:
            at += 1
    return " ".join(phones)


def spelled(word: str) -> str:
    """The letters' names one after the other."""
    return " ".join(LETTERS[letter] for letter in word.lower() if letter in LETTERS)


def pronunciations(word: str, dictionary: Mapping[str, list[str]], ipa: Mapping[str, str]) -> list[str]:
    """All ways to say ``word`` (capitals: an acronym), likeliest first, without repetition; empty if there is none."""
    lower = word.lower()
    ways = list(dictionary.get(lower, ()))
    if not ways and lower.endswith("'s"):
        ways = [f"{way} Z" for way in dictionary.get(lower[:-2], ())]
    if word.isupper() and 2 <= len(word) <= 5:
        ways.append(spelled(word))
    if not ways or (word.isupper() and lower not in dictionary):
        ways.append(arpabet(ipa.get(lower, "")))
    return [way for way in dict.fromkeys(ways) if way]
