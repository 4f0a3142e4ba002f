"""Numbers read out: the words of each language, what a figure is taken for, and what is left alone."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.languages import Language, Scale, listed, load_languages
from antiphon.media.speakable import Spoken
from antiphon.number_words import NumberReader, read_numbers, reader_for

LANGUAGES = load_languages()
TAGS = sorted(LANGUAGES)


@pytest.mark.parametrize("tag", TAGS)
def test_each_language_can_read_everything(tag: str) -> None:
    numbers = LANGUAGES[tag].numbers
    assert [len(listed(words)) for words in (numbers.cardinals, numbers.hundreds, numbers.months)] == [100, 9, 12]
    assert len(set(listed(numbers.cardinals))) == 100
    assert len(set(listed(numbers.ordinals))) == len(listed(numbers.ordinals)) >= 31
    assert all((numbers.rupee, numbers.paisa, numbers.date, numbers.time, numbers.percent, numbers.range))
    assert all((numbers.point, numbers.minus, numbers.plus, numbers.nineteen_hundred, numbers.ordinal_end))


@pytest.mark.parametrize(
    ("number", "hindi", "telugu", "gujarati", "english"),
    [
        (0, "शून्य", "సున్నా", "શૂન્ય", "zero"),
        (29, "उनतीस", "ఇరవై తొమ్మిది", "ઓગણત્રીસ", "twenty nine"),
        (100, "एक सौ", "వంద", "એકસો", "one hundred"),
        (105, "एक सौ पाँच", "నూట ఐదు", "એકસો પાંચ", "one hundred five"),
        (200, "दो सौ", "రెండు వందలు", "બસો", "two hundred"),
        (250, "दो सौ पचास", "రెండు వందల యాభై", "બસો પચાસ", "two hundred fifty"),
        (1000, "एक हज़ार", "వెయ్యి", "એક હજાર", "one thousand"),
        (1500, "एक हज़ार पाँच सौ", "వెయ్యి ఐదు వందలు", "એક હજાર પાંચસો", "one thousand five hundred"),
        (25_000, "पच्चीस हज़ार", "ఇరవై ఐదు వేలు", "પચ્ચીસ હજાર", "twenty five thousand"),
        (125_000, "एक लाख पच्चीस हज़ार", "లక్ష ఇరవై ఐదు వేలు", "એક લાખ પચ્ચીસ હજાર", "one lakh twenty five thousand"),
        (350_000, "तीन लाख पचास हज़ार", "మూడు లక్షల యాభై వేలు", "ત્રણ લાખ પચાસ હજાર", "three lakh fifty thousand"),
        (20_000_000, "दो करोड़", "రెండు కోట్లు", "બે કરોડ", "two crore"),
        (2_000_000_000, "दो सौ करोड़", "రెండు వందల కోట్లు", "બસો કરોડ", "two hundred crore"),
    ],
)  # fmt: skip
def test_counting(number: int, hindi: str, telugu: str, gujarati: str, english: str) -> None:
    words = [reader_for(tag).cardinal(number) for tag in ("hi-IN", "te-IN", "gu-IN", "en-IN")]
    assert words == [hindi, telugu, gujarati, english]


@pytest.mark.parametrize(
    ("tag", "written", "read"),
    [
        ("en-IN", "The fee is ₹1,25,000 a year", "The fee is one lakh twenty five thousand rupees a year"),
        ("en-IN", "Rs. 1,250.50", "one thousand two hundred fifty rupees and fifty paise"),
        ("en-IN", "INR 1 and ₹2.00", "one rupee and two rupees"),
        ("en-IN", "₹2.5 lakh, or 500/-", "two point five lakh rupees, or five hundred rupees"),
        ("en-IN", "₹50,000 - ₹60,000", "fifty thousand to sixty thousand rupees"),
        ("en-IN", "in ₹", "in  rupees "),
        ("hi-IN", "शुल्क ₹25,000 है।", "शुल्क पच्चीस हज़ार रुपये है।"),
        ("te-IN", "ఫీజు ₹2,000 కట్టాలి", "ఫీజు రెండు వేల రూపాయలు కట్టాలి"),
        ("te-IN", "₹2,000కి", "రెండు వేల రూపాయలకి"),
        ("te-IN", "₹1,250.50", "వెయ్యి రెండు వందల యాభై రూపాయల యాభై పైసలు"),
        ("gu-IN", "ફી ₹25,000 છે.", "ફી પચ્ચીસ હજાર રૂપિયા છે."),
        ("en-IN", "Call +91 98765 43210.", "Call plus nine one, nine eight seven six five, four three two one zero."),
        ("en-IN", "9876543210", "nine eight seven six five, four three two one zero"),
        ("hi-IN", "1800-123-4567", "एक आठ शून्य शून्य, एक दो तीन, चार पाँच छह सात"),
        ("en-IN", "85.5% or 10-15%", "eighty five point five percent or ten to fifteen percent"),
        ("hi-IN", "50%", "पचास प्रतिशत"),
        ("gu-IN", "85.5%", "પંચાસી દશાંશ પાંચ ટકા"),
        ("en-IN", "15/08/1947, 2025-06-30", "fifteenth August nineteen forty seven, thirtieth June twenty twenty five"),
        ("hi-IN", "15-08-2025", "पंद्रह अगस्त दो हज़ार पच्चीस"),
        ("te-IN", "15.08.2025", "ఆగస్టు పదిహేను, రెండు వేల ఇరవై ఐదు"),
        ("en-IN", "in 1900, 1905 and 1909", "in one thousand nine hundred, nineteen oh five and nineteen oh nine"),
        ("hi-IN", "1905", "उन्नीस सौ पाँच"),
        ("en-IN", "10000-20000", "ten thousand to twenty thousand"),
        ("en-IN", "12500-13750 a year", "twelve thousand five hundred to thirteen thousand seven hundred fifty a year"),
        ("en-IN", "98765-43210", "nine eight seven six five, four three two one zero"),
        ("en-IN", "98500-12000", "nine eight five zero zero, one two zero zero zero"),
        ("en-IN", "12345-67890", "one two three four five, six seven eight nine zero"),
        ("hi-IN", "10000-20000", "दस हज़ार से बीस हज़ार"),
        ("en-IN", "in 1947, 2005 and 2025", "in nineteen forty seven, two thousand five and twenty twenty five"),
        ("en-IN", "2024-25", "twenty twenty four, twenty five"),
        ("en-IN", "2024-2025", "twenty twenty four to twenty twenty five"),
        ("hi-IN", "1947 में 1950 रुपये", "उन्नीस सौ सैंतालीस में एक हज़ार नौ सौ पचास रुपये"),
        ("en-IN", "10:30 AM, 10 p.m. or 14:05", "ten thirty in the morning, ten at night or two five in the afternoon"),
        ("en-IN", "at 10:00", "at ten o'clock"),
        ("hi-IN", "10:30 AM से 2:30 pm", "सुबह साढ़े दस बजे से दोपहर ढाई बजे"),
        ("hi-IN", "सुबह 10:30 बजे, 9:45 बजे", "सुबह साढ़े दस बजे, पौने दस बजे"),
        ("hi-IN", "9:20", "नौ बजकर बीस मिनट"),
        ("te-IN", "10:30 గంటలకు, 1:00 PM", "పదిన్నర గంటలకు, మధ్యాహ్నం ఒంటి గంట"),
        ("gu-IN", "1:30 PM", "બપોરે દોઢ વાગ્યે"),
        ("en-IN", "1st, 22nd, 45th and 121st", "first, twenty second, forty fifth and one hundred twenty first"),
        ("en-IN", "the 200th", "the two hundredth"),
        ("hi-IN", "12वीं", "बारहवीं"),
        ("te-IN", "5వ తరగతి, 200 మంది, 200", "ఐదవ తరగతి, రెండు వందల మంది, రెండు వందలు"),
        ("gu-IN", "12મી", "બારમી"),
        ("hi-IN", "१२३", "एक सौ तेईस"),
        ("te-IN", "౧౦౫", "నూట ఐదు"),
        ("en-IN", "a 4-year course", "a four-year course"),
        ("en-IN", "-5 degrees", "minus five degrees"),
        ("en-IN", "007 and 0123456", "zero zero seven and zero one two three four five six"),
        ("mr-IN", "₹25,000", "25,000 रुपये"),
        ("fr-FR", "₹25,000 à 9876543210", "25,000 rupees à 9 8 7 6 5, 4 3 2 1 0"),
    ],
)  # fmt: skip
def test_figures_are_read(tag: str, written: str, read: str) -> None:
    assert read_numbers(written, tag) == read


@pytest.mark.parametrize(
    "written",
    [
        "", "no figures", "192.168.1.1", "3.11.2", "COVID-19", "B2", "24x7", "a_3", "x@b3.com", "http://x.org/2024/05",
        "1/2", "25:61", "99/99/2025", "31/13/2025", "10-2", "pages 10,12", "#5", "v1.2",
    ],
)  # fmt: skip
def test_what_is_no_plain_number_is_left_alone(written: str) -> None:
    assert read_numbers(written, "en-IN") == written


def test_a_corrected_language_reads_its_own_words() -> None:
    hindi = LANGUAGES["hi-IN"]
    numbers = type(hindi.numbers)(**{
        **{name: getattr(hindi.numbers, name) for name in hindi.numbers.__struct_fields__},
        "rupee": Scale(one="एक रुपैया", many="{} रुपैये"),
    })  # fmt: skip
    corrected = Language(tag="hi-IN", english_name="Hindi", own_name="हिन्दी", numbers=numbers)
    assert read_numbers("₹500", corrected) == "पाँच सौ रुपैये"
    assert read_numbers("₹500", Language(tag="xx", english_name="X", own_name="X")) == "₹500"


@given(st.integers(min_value=0, max_value=10**11), st.sampled_from(TAGS))
@settings(max_examples=200)
def test_every_count_has_words_of_its_own(number: int, tag: str) -> None:
    reader = reader_for(tag)
    words = reader.cardinal(number)
    assert not re.search(r"\d|\{|  ", words)
    assert words != reader.cardinal(number + 1)


@given(st.text(alphabet="0123456789,.-/:%₹ Rsapmth+५౫૫aहవ\n", max_size=60), st.sampled_from([*TAGS, "ta-IN"]))
@settings(max_examples=300)
def test_any_text_is_read_with_its_origins(written: str, tag: str) -> None:
    spoken = Spoken(written)
    reader_for(tag).read(spoken)
    assert len(spoken.origin) == len(spoken.text)
    assert spoken.origin == sorted(spoken.origin)
    assert all(0 <= at < len(written) for at in spoken.origin)
    assert spoken.text == read_numbers(written, tag)


@pytest.mark.parametrize("piece", ["1,", "1,00,", "9 ", "12-", "1.", "10:30 ", "₹", "99999 ", "12/12/", "1-2-", "+91 "])
def test_time_grows_with_the_length_only(piece: str) -> None:
    reader = reader_for("en-IN")
    start = time.perf_counter()
    reader.read(Spoken((piece * 4000)[:4000]))
    assert time.perf_counter() - start < 1.0


def test_a_language_without_words_leaves_the_figures() -> None:
    spoken = Spoken("10:30, 15/08/2025, 50%, 2024-25, 1st and ₹5")
    NumberReader(Language(tag="xx", english_name="X", own_name="X").numbers).read(spoken)
    assert spoken.text == "10:30, 15/08/2025, 50%, 2024-25, 1st and ₹5"
