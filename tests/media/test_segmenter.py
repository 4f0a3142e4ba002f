"""Cutting a stream of text into pieces fit to be spoken."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from antiphon.errors import ConfigError
from antiphon.media.segmenter import FIRST_CLAUSE_CHARS, Segmenter


def cut(text: str, language: str = "en-IN", **options: object) -> list[str]:
    segmenter = Segmenter(language, **{"first_clause": False, **options})  # type: ignore[arg-type]
    return segmenter.feed(text) + segmenter.flush()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The fee is Rs. 1,250.50 for each semester of 2025.", "en-IN"),
        ("Please meet Dr. Rao, Mrs. Iyer and Prof. Sen tomorrow.", "en-IN"),
        ("Bring a proof of address, e.g. this letter or i.e. a bill.", "en-IN"),
        ("Pi is roughly 3.14 and e is 2.718 in tables.", "en-IN"),
        ("The office opens at 9 a.m. on weekdays and shuts at 5 p.m. sharp.", "en-IN"),
        ("We open at 9 a.m. Monday to Friday.", "en-IN"),
        ("A B.Tech. Programme or a Ph.D. in physics takes time.", "en-IN"),
        ("It was named after A. P. J. Abdul Kalam and A.P.J. College too.", "en-IN"),
        ("See https://example.edu/apply?q=1.2&x=3!y or www.example.com today.", "en-IN"),
        ("Write to admissions.office@uni.example.ac.in for the forms.", "en-IN"),
        ("Your room is on the 3. floor, the 21st of the month.", "en-IN"),
        ("Well... maybe you should wait... and see… if it opens.", "en-IN"),
        ('"Really?" he asked, "so soon!" and left.', "en-IN"),
        ("Form No. 12 and Fig. 3 of Sec. 4, due Jan. 5, are online.", "en-IN"),
        ("Use Node.js v18.2.1 or version 2.0 of the app.", "en-IN"),
        ("I study at Tata Inc. of Pune, Pvt. Ltd. company.", "en-IN"),
        ("कृपया डॉ. राव से मिलें और रु. 1,250.50 जमा करें।", "hi-IN"),
        ("ए. पी. जे. अब्दुल कलाम का जन्म यहाँ हुआ था।", "hi-IN"),
        ("బి.టెక్. కోర్సు ఫీజు రూ. 50,000 మాత్రమే.", "te-IN"),
        ("ఎన్. టి. రామారావు గారు వచ్చారు.", "te-IN"),
        ("ડૉ. પટેલ આજે રૂ. 500 લેશે.", "gu-IN"),
        ("1. Apply online and pay the fee.", "en-IN"),
    ],
)
def test_one_sentence_stays_one(text: str, language: str) -> None:
    assert cut(text, language) == [text]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello. How are you? Fine!", ["Hello.", "How are you?", "Fine!"]),
        ("He lives in Delhi. She does not.", ["He lives in Delhi.", "She does not."]),
        ("We close at 5 p.m. The library stays open.", ["We close at 5 p.m.", "The library stays open."]),
        ("Bring marksheets, photos, etc. You can post them.", ["Bring marksheets, photos, etc.", "You can post them."]),
        ("It costs Rs. 500. Pay it today.", ["It costs Rs. 500.", "Pay it today."]),
        ("Is it open? No. You must wait.", ["Is it open?", "No.", "You must wait."]),
        ("Visit www.example.com. Then apply.", ["Visit www.example.com.", "Then apply."]),
        ('She said "Come in." Then she left.', ['She said "Come in."', "Then she left."]),
        ("(It is free.) Apply now.", ["(It is free.)", "Apply now."]),
        ("**Yes.** It is open.", ["**Yes.**", "It is open."]),
        ("What?! Really!! OK.", ["What?!", "Really!!", "OK."]),
        ("Wait... What happened?", ["Wait...", "What happened?"]),
        ("It began in 2025. then it grew.", ["It began in 2025.", "then it grew."]),
        ("1. Apply online.\n2. Pay the fee.\n\n- Come", ["1. Apply online.", "2. Pay the fee.", "- Come"]),
        ("Topics:\nfees\nhostel", ["Topics:", "fees", "hostel"]),
        ("प्रवेश खुला है। आवेदन करें। धन्यवाद", ["प्रवेश खुला है।", "आवेदन करें।", "धन्यवाद"]),
        ("श्लोक एक।श्लोक दो॥ अंत", ["श्लोक एक।", "श्लोक दो॥", "अंत"]),
        ("उसने कहा “आइए।” फिर गया।", ["उसने कहा “आइए।”", "फिर गया।"]),
        ("ફી ભરવી પડશે. આભાર છે. હા જી. આવો.", ["ફી ભરવી પડશે.", "આભાર છે.", "હા જી.", "આવો."]),
        ("ఫీజు కట్టాలి. ధన్యవాదాలు.", ["ఫీజు కట్టాలి.", "ధన్యవాదాలు."]),
        ("haan ji! aapka form mil gaya hai. kal aaiye", ["haan ji!", "aapka form mil gaya hai.", "kal aaiye"]),
        ("", []),
        (" \n\t ", []),
        ("No end", ["No end"]),
    ],
)
def test_sentences(text: str, pieces: list[str]) -> None:
    assert cut(text) == pieces


def test_a_language_adds_its_own_abbreviations() -> None:
    assert cut("ડૉ. પટેલ આવશે.", "en-IN") == ["ડૉ.", "પટેલ આવશે."]
    assert cut("ડૉ. પટેલ આવશે.", "gu-IN") == ["ડૉ. પટેલ આવશે."]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("For the undergraduate course, you need marks, and more.", "For the undergraduate course,"),
        (
            "Yes, of course, you can apply until the end of June.",
            "Yes, of course, you can apply until the end of June.",
        ),
        ("Here is what you will need: a form and a photo.", "Here is what you will need:"),
        ("The fees are not final — they may change.", "The fees are not final —"),
        ("The fees are not final - they may change.", "The fees are not final -"),
        ("The well-known institute costs 1,25,000 rupees.", "The well-known institute costs 1,25,000 rupees."),
        ("The last date is the 15 January, 2025 for all.", "The last date is the 15 January,"),
        ("Choose one of options 1, 2 or 3 and go on.", "Choose one of options 1, 2 or 3 and go on."),
        ("Our office hours are 10:30 to 17:45 every day.", "Our office hours are 10:30 to 17:45 every day."),
        ("प्रवेश के लिए आपको फॉर्म भरना होगा, फिर शुल्क दें।", "प्रवेश के लिए आपको फॉर्म भरना होगा,"),
    ],
)
def test_the_first_piece_may_be_a_clause(text: str, first: str) -> None:
    pieces = cut(text, first_clause=True)
    assert pieces[0] == first
    assert " ".join(pieces) == text


def test_only_the_first_piece_is_cut_at_a_clause_and_flush_starts_anew() -> None:
    text = "This is the opening clause, and the rest. But here is another clause, which stays whole."
    whole = ["This is the opening clause,", "and the rest.", "But here is another clause, which stays whole."]
    segmenter = Segmenter()
    for _ in range(2):
        assert segmenter.feed(text) + segmenter.flush() == whole


def test_pieces_come_as_soon_as_they_are_safe() -> None:
    segmenter = Segmenter()
    assert segmenter.feed("To apply you need a form") == []
    assert segmenter.feed(",") == []
    assert segmenter.feed(" and") == ["To apply you need a form,"]
    assert segmenter.feed(" a fee of Rs.") == []
    assert segmenter.feed(" 1") == []
    assert segmenter.feed(",250.") == []
    assert segmenter.feed("50.") == []
    assert segmenter.feed(" T") == ["and a fee of Rs. 1,250.50."]
    assert segmenter.feed("hat is all.\n") == ["That is all."]
    assert segmenter.feed("धन्यवाद।") == []
    assert segmenter.feed(" ") == ["धन्यवाद।"]
    assert segmenter.flush() == []


def test_long_sentences_are_cut_at_a_clause_then_at_a_space_then_anywhere() -> None:
    clause = "a word and another " * 3 + "here, " + "some more words of it " * 4
    assert cut(clause, max_chars=100)[0].endswith("here,")
    assert cut("word " * 60, max_chars=50) == [("word " * 10).strip()] * 6
    assert cut("x" * 130, max_chars=50) == ["x" * 50, "x" * 50, "x" * 30]
    assert cut("many words here and Dr. Rao" + "o" * 60, max_chars=40)[0] == "many words here and"
    # A vowel sign stays with its letter.
    assert all(piece[0] == "క" for piece in cut("కి" * 100, max_chars=41))
    assert all(piece[0] == "स" for piece in cut("स्त्री" * 30, max_chars=40))


def test_a_doubt_that_lasts_is_cut_too() -> None:
    """What follows "etc." or a comma is out of sight: a bound on how far to look ahead."""
    for doubt in ("etc.", "word,", "word.", "A."):
        segmenter = Segmenter(first_clause=True, max_chars=40)
        fed = segmenter.feed("x" * 30 + " " + doubt + " " * 50)
        assert fed == ["x" * 30 + " " + doubt] or fed[:1] == ["x" * 30]
        assert "".join(fed + segmenter.flush()) in ("x" * 30 + " " + doubt, "x" * 30 + doubt)


def test_max_chars_has_bounds() -> None:
    for wrong in (39, 2001):
        with pytest.raises(ConfigError):
            Segmenter(max_chars=wrong)


fragments = st.lists(
    st.sampled_from(
        [
            *" .!?…।॥\n,;:—–-\"')(*“”`#0159",
            "...", ". ", ", ", "a.m. ", "Rs. ", "Dr. ", "e.g. ", "etc. ", "No. ", "A. ", "P. ", "B.Tech. ", "जी. ",
            "के. ", "The ", "We ", "Monday ", "word ", "word", "है ", "ఉంది. ", "https://a.b/c?d ", "3.14 ", "1,250.50 ",
            "\u200d", "कि", "x" * 30,
        ]
    ),
    max_size=60,
).map("".join)  # fmt: skip
texts = st.one_of(fragments, st.text(max_size=200))


def squeezed(text: str) -> str:
    return "".join(text.split())


@settings(max_examples=300, deadline=None)
@given(text=texts, data=st.data(), language=st.sampled_from(["en-IN", "hi-IN", "te-IN"]), first=st.booleans())
def test_the_deltas_do_not_matter_and_nothing_is_lost(
    text: str, data: st.DataObject, language: str, first: bool
) -> None:
    whole = cut(text, language, first_clause=first, max_chars=40)
    segmenter = Segmenter(language, first_clause=first, max_chars=40)
    points = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces: list[str] = []
    for begin, end in zip([0, *points], [*points, len(text)], strict=True):
        pieces += segmenter.feed(text[begin:end])
    pieces += segmenter.flush()
    assert pieces == whole
    assert squeezed("".join(whole)) == squeezed(text)
    assert all(piece and piece == piece.strip() and len(piece) <= 40 for piece in whole)


@settings(max_examples=150, deadline=None)
@given(text=texts)
@example("a. \n b")
def test_letter_by_letter_is_the_same_too(text: str) -> None:
    segmenter = Segmenter(max_chars=60)
    pieces = [piece for letter in text for piece in segmenter.feed(letter)] + segmenter.flush()
    assert pieces == cut(text, first_clause=True, max_chars=60)


@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_a_first_clause_is_long_enough(text: str) -> None:
    with_clause, without = cut(text, first_clause=True), cut(text)
    if with_clause != without:
        assert len(with_clause[0]) >= FIRST_CLAUSE_CHARS
