import pytest

from antiphon.providers.stt.phrases import general
from antiphon.providers.stt.pronounce import arpabet, pronunciations, spelled


@pytest.mark.parametrize(
    ("ipa", "phones"),
    [
        ("l ˈæ s i", "L AE S IY"),
        ("h ˈaɪ d ɚ ɹ ɐ b ˌɑː d", "HH AY D ER R AH B AA D"),
        ("t ˈoʊ f əl", "T OW F AH L"),
        ("tʃ ˈʌ t n i", "CH AH T N IY"),
        ("p æ n ˈɪɹ", "P AE N IH R"),
        ("", ""),
        ("☃ b", "B"),
    ],
)
def test_ipa_becomes_arpabet(ipa: str, phones: str) -> None:
    assert arpabet(ipa) == phones


def test_an_acronym_is_spelled_and_said_as_a_word() -> None:
    ways = pronunciations("GRE", {}, {"gre": "ɡ ɹ eɪ"})
    assert ways == ["JH IY AA R IY", "G R EY"]
    assert spelled("MBA") == "EH M B IY EY"


def test_the_dictionary_comes_first() -> None:
    assert pronunciations("fee", {"fee": ["F IY"]}, {"fee": "x"}) == ["F IY"]
    assert pronunciations("rani's", {"rani": ["R AA N IY"]}, {}) == ["R AA N IY Z"]


def test_a_word_nobody_can_say_has_no_pronunciation() -> None:
    assert pronunciations("zzz", {}, {}) == []


def test_general_phrases_are_the_same_every_time() -> None:
    assert general() == general()
    assert len(set(general())) > 200
