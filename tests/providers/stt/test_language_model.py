import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.providers.stt.language_model import MAX_WORDS_A_SENTENCE, TrigramModel, number_words, words


@pytest.mark.parametrize(
    ("sentence", "said"),
    [
        ("What's the fee for the MBA?", "what's the fee for the MBA"),
        ("Is 7.5 in the IELTS enough?", "is seven point five in the IELTS enough"),
        ("B.Tech, M.Sc. and Ph.D.", "b tech m sc and ph d"),
        ("Classes of 2025-26 start on the 3rd", "classes of twenty twenty five twenty six start on the third"),
        ("₹1,25,000 & 50% off", "rupees one lakh twenty five thousand and fifty percent off"),
        ("a master’s degree", "a master's degree"),
        ("", ""),
    ],
)
def test_words_are_as_they_are_said(sentence: str, said: str) -> None:
    assert words(sentence) == said.split()


def test_a_sentence_is_bounded() -> None:
    assert len(words("word " * 500)) == MAX_WORDS_A_SENTENCE


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("0", "zero"), ("15", "fifteen"), ("40", "forty"), ("99", "ninety nine"), ("100", "one hundred"),
        ("101", "one hundred one"), ("1900", "nineteen hundred"), ("1984", "nineteen eighty four"),
        ("2000", "two thousand"), ("2005", "two thousand five"), ("2026", "twenty twenty six"),
        ("2,026", "two thousand twenty six"), ("12300045", "one crore twenty three lakh forty five"),
        ("9876543210", "nine eight seven six five four three two one zero"),
        ("20th", "twentieth"), ("21st", "twenty first"), ("12th", "twelfth"), ("4th", "fourth"),
    ],
)  # fmt: skip
def test_numbers(token: str, said: str) -> None:
    assert " ".join(number_words(token)) == said


def parse(arpa: str) -> list[dict[tuple[str, ...], tuple[float, float]]]:
    """Probability and back-off weight of each gram, by order; checks the counts in the header."""
    orders: list[dict[tuple[str, ...], tuple[float, float]]] = []
    declared = []
    for line in arpa.splitlines():
        if line.startswith("ngram "):
            declared.append(int(line.partition("=")[2]))
        elif line.endswith("-grams:"):
            orders.append({})
        elif (line and line[0] == "-") or line.startswith("0.0"):
            probability, *rest = line.split()
            order = len(orders)
            back = float(rest[order]) if len(rest) > order else 0.0
            orders[-1][tuple(rest[:order])] = (10 ** float(probability), 10**back)
    assert declared == [len(order) for order in orders]
    return orders


sentences = st.lists(
    st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1, max_size=5), min_size=1, max_size=8
)


@given(sentences, st.floats(0.05, 0.9))
@settings(max_examples=60)
def test_every_history_sums_to_one(lines: list[list[str]], share: float) -> None:
    """The property a back-off model must have: seen words, and the rest through the shorter history."""
    model = TrigramModel()
    model.add(lines)
    ones, twos, threes = parse(model.arpa({"a": 3.0, "x": 1.0}, share))
    assert sum(p for (word,), (p, _) in ones.items() if word != "<s>") == pytest.approx(1.0, abs=2e-3)
    vocabulary = [word for (word,) in ones if word != "<s>"]

    def pair(history: str, word: str) -> float:
        if (history, word) in twos:
            return twos[history, word][0]
        return ones[history,][1] * ones[word,][0]

    for history in {history for history, _ in twos}:
        assert sum(pair(history, word) for word in vocabulary) == pytest.approx(1.0, abs=5e-3)
    seen: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for first, second, word in threes:
        seen[first, second].add(word)
    for (first, second), known in seen.items():
        total = sum(threes[first, second, word][0] for word in known)
        total += sum(twos[first, second][1] * pair(second, word) for word in vocabulary if word not in known)
        assert total == pytest.approx(1.0, abs=1e-2)


def test_what_was_said_is_likelier_than_what_was_not() -> None:
    model = TrigramModel()
    model.add([words("how much is the fee"), words("how long is the course")])
    ones, twos, _ = parse(model.arpa({"zebra": 1.0}, 0.3))
    assert twos["the", "fee"][0] > 0.2
    assert ones["zebra",][0] == pytest.approx(0.3, rel=0.05)
    assert math.isclose(ones["the",][0], 0.7 * 2 / 12, rel_tol=0.05)


def test_weight_counts_a_sentence_less() -> None:
    model = TrigramModel()
    model.add([["yes"]], 1.0)
    model.add([["no"]], 0.25)
    ones, _, _ = parse(model.arpa({}, 0.0))
    assert ones["yes",][0] == pytest.approx(4 * ones["no",][0], rel=1e-2)
