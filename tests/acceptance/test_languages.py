"""Calls in four languages, from ear to mouth (A36 to A42, A80): hint, transcript, prompt, reply and voice.

English is heard by the offline recogniser. There is none for Hindi, Telugu and Gujarati: a stand-in hears them, and the
names of those tests say so. The agent's voice is espeak's everywhere. All calls are placed at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from alive import QUIET, says_nothing_dead
from answering import Polyglot, language_told
from calling import Placed, call, caller_voices
from hearing import SAME, likeness
from loopback_openai import KEY, serving
from loopback_whisper import serving as hearing_for
from recognising import KnowsSentences
from served import FAKE, Server, ended

from antiphon.kernel.events import LanguageSwitched, SegmentReady, TranscriptFinal
from antiphon.languages import load_languages
from antiphon.phone import Say

EN, HI, TE, GU = "en-IN", "hi-IN", "te-IN", "gu-IN"
REPLIES = {
    EN: "Until the thirty first of May.",
    HI: "इकतीस मई तक कीजिए।",
    TE: "మే ముప్పై ఒకటి వరకు చేయండి.",
    GU: "એકત્રીસ મે સુધી કરી શકાય.",
}
OTHER = {EN: TE, HI: EN, TE: HI, GU: EN}
"""Whose rules read the same text quite differently: Hindi and Gujarati share most of their sounds."""
APART = 0.1
ASKED = {
    HI: ("विदेशी छात्रों के लिए क्या योग्यता चाहिए?", "प्रवेश के लिए क्या योग्यता चाहिए?"),
    TE: ("విదేశీ విద్యార్థులకు ఫీజు ఎంత?", "ప్రవేశానికి ఏ అర్హతలు కావాలి?"),
    GU: ("વિદેશી વિદ્યાર્થીઓની ફી કેટલી છે?", "પ્રવેશ માટે કઈ લાયકાત જોઈએ?"),
}
ENGLISH = ("When do applications close?", "What are the admission requirements?")
SWITCHING = (
    (EN, "What is the last date to apply?", EN),
    (TE, "దరఖాస్తుకు చివరి తేదీ ఎప్పుడు?", EN),
    (TE, "దరఖాస్తు ఎలా చేయాలి?", TE),
    (HI, "आवेदन की आखिरी तारीख क्या है?", TE),
    (HI, "आवेदन कैसे करें?", HI),
)
"""Language of the caller, what they say, language of the answer."""
ASKING = (
    (EN, "Is there a hostel on the campus?", EN),
    (EN, "Please speak in Telugu.", TE),
    (TE, "ఏ పత్రాలు కావాలి?", TE),
    (HI, "विदेशी छात्रों की फीस कितनी है?", TE),
)
KNOWN = {text: tag for tag, texts in ASKED.items() for text in texts} | {
    text: tag for tag, text, _ in (*SWITCHING, *ASKING)
}
NAMED_BY_PROVIDER = ("the first of three", "the second of three", "the third of three")


@dataclass(frozen=True)
class Told:
    """All calls, and what the endpoints behind them were asked: by what the caller said."""

    calls: dict[str, Placed]
    hints: dict[str, str]
    prompts: dict[str, str]
    """The language that the model was told."""
    contents: dict[str, list[str]]
    """The conversation that the model was given, before the question."""
    logs: str


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return asyncio.run(placed(tmp_path_factory.mktemp("languages")))


async def placed(folder: Path) -> Told:
    async with (
        caller_voices() as voices,
        serving(Polyglot(REPLIES)) as model,
        hearing_for(KnowsSentences(KNOWN, voices)) as ear,
    ):
        llm = {"provider": "openai", "base_url": model.base_url, "model": "test"}
        base = {**FAKE, **QUIET, "llm": llm, "tts": {"provider": "espeak"}}
        standin = {"provider": "whisper", "base_url": ear.base_url, "model": "whisper-1"}
        naming = {"provider": "fake", "transcripts": NAMED_BY_PROVIDER, "languages": [EN, TE, TE], "confidence": 0.9}
        servers = [
            Server(folder / name, {**base, **parts}, OPENAI_API_KEY=KEY)
            for name, parts in {
                "offline": {"stt": {"provider": "pocketsphinx"}},
                "standin": {"stt": standin},
                "naming": {"stt": naming},
            }.items()
        ]
        with ended(*servers):
            offline, hears_all, names = await asyncio.gather(*(server.start() for server in servers))
            scripts = {
                f"CA{tag}": (hears_all, tag, tuple(Say(text, tag) for text in texts)) for tag, texts in ASKED.items()
            }
            scripts |= {
                "CAen-IN": (offline, EN, tuple(map(Say, ENGLISH))),
                "CAswitching": (hears_all, EN, tuple(Say(text, tag) for tag, text, _ in SWITCHING)),
                "CAasking": (hears_all, EN, tuple(Say(text, tag) for tag, text, _ in ASKING)),
                "CAnamed": (names, EN, (Say("Hello."), Say("నమస్కారం.", TE), Say("నమస్కారం.", TE))),
            }
            calls = await asyncio.gather(
                *(
                    call(server, *steps, id=name, voices=voices, language=tag)
                    for name, (server, tag, steps) in scripts.items()
                )
            )
            logs = "\n".join(server.log() for server in servers)
    prompts, contents = {}, {}
    for request in model.requests:
        *before, question = request["messages"]
        prompts[question["content"]] = language_told(request)
        contents[question["content"]] = [said for each in before[1:] if not is_filler(said := each["content"])]
    return Told(dict(zip(scripts, calls, strict=True)), ear.hints, prompts, contents, logs)


def is_filler(said: str) -> bool:
    """Of a busy machine the model is told these, too, as far as they were heard."""
    return any(text.startswith(said) for language in load_languages().values() for text in language.phrases["filler"])


def turns_of(call: Placed) -> list[tuple[TranscriptFinal, list[SegmentReady]]]:
    """What was heard of the caller, and the speech it was answered with, turn by turn."""
    finals = [entry.event for entry in call.entries if isinstance(entry.event, TranscriptFinal)]
    ready = [entry.event for entry in call.entries if isinstance(entry.event, SegmentReady)]
    ready = [each for each in ready if each.kind != "filler"]
    turns = sorted({segment.turn for segment in ready})
    assert len(finals) == len(turns) == len(call.report.turns) - 1
    return [(final, [each for each in ready if each.turn == turn]) for final, turn in zip(finals, turns, strict=True)]


def is_spoken_in(call: Placed, answers: Sequence[tuple[str, str]]) -> None:
    """``answers``: language and text of what the agent says, turn by turn; the sound is that language's voice."""

    async def compared() -> list[tuple[float, float]]:
        async with caller_voices() as voices:
            return [
                (
                    await likeness(turn.audio, voices, text, tag),
                    await likeness(turn.audio, voices, text, OTHER[tag]),
                )
                for turn, (tag, text) in zip(call.report.turns[1:], answers, strict=True)
            ]

    assert [[(each.language, each.text) for each in said] for _, said in turns_of(call)] == [[each] for each in answers]
    for (tag, text), (like, unlike) in zip(answers, asyncio.run(compared()), strict=True):
        print(f"{text!r}: like {tag} {like:.2f}, like {OTHER[tag]} {unlike:.2f}")
        assert like > SAME
        assert unlike < like - APART


def goes_through(told: Told, name: str, language: str, asked: Sequence[str]) -> None:
    """One language from ear to mouth, turn by turn."""
    call = told.calls[name]
    says_nothing_dead(call)
    for (final, _), text in zip(turns_of(call), asked, strict=True):
        assert final.text.lower().strip("?") == text.lower().strip("?")
        assert final.language == language
        assert told.prompts[final.text] == language
    assert told.contents[turns_of(call)[1][0].text] == [turns_of(call)[0][0].text, REPLIES[language]]
    assert not call.times(LanguageSwitched)
    is_spoken_in(call, [(language, REPLIES[language])] * len(asked))


def test_nothing_went_wrong(told: Told) -> None:
    assert "Traceback" not in told.logs


def test_english_is_heard_offline_and_answered_in_english(told: Told) -> None:
    goes_through(told, "CAen-IN", EN, ENGLISH)
    assert {final.provider for final, _ in turns_of(told.calls["CAen-IN"])} == {"pocketsphinx"}


@pytest.mark.parametrize("language", ASKED)
def test_with_a_stand_in_transcriber_a_call_is_held_in_its_language(told: Told, language: str) -> None:
    goes_through(told, f"CA{language}", language, ASKED[language])
    hints = {told.hints[text] for text in ASKED[language]}
    assert hints == {language.partition("-")[0]}, "what the endpoint was told to expect"


def test_with_a_stand_in_transcriber_a_call_changes_with_its_caller_from_the_second_turn_on(told: Told) -> None:
    call = told.calls["CAswitching"]
    says_nothing_dead(call)
    assert [final.language for final, _ in turns_of(call)] == [spoken for spoken, _, _ in SWITCHING]
    assert {final.language_by for final, _ in turns_of(call)} == {"text"}
    assert [told.prompts[text] for _, text, _ in SWITCHING] == [answer for _, _, answer in SWITCHING]
    assert [told.hints[text] for _, text, _ in SWITCHING] == ["en", "en", "en", "te", "te"]
    is_spoken_in(call, [(answer, REPLIES[answer]) for _, _, answer in SWITCHING])
    assert switches(call) == [(TE, EN, "detected"), (HI, TE, "detected")]
    # The conversation goes on across languages.
    before = [part for _, text, answer in SWITCHING[:-1] for part in (text, REPLIES[answer])]
    assert told.contents[SWITCHING[-1][1]] == before


def test_with_a_stand_in_transcriber_a_caller_who_asks_for_telugu_has_it_at_once(told: Told) -> None:
    call = told.calls["CAasking"]
    says_nothing_dead(call)
    assert switches(call) == [(TE, EN, "chosen")]
    promise = load_languages()[TE].phrases["language_switched"]
    (_, (said,)) = turns_of(call)[1]
    assert (said.kind, said.language) == ("language_switched", TE)
    assert said.text in promise
    is_spoken_in(call, [(EN, REPLIES[EN]), (TE, said.text), (TE, REPLIES[TE]), (TE, REPLIES[TE])])
    assert told.hints[ASKING[2][1]] == "te"
    assert ASKING[1][1] not in told.prompts, "there is nothing to answer"


def test_with_a_scripted_transcriber_that_names_the_language_its_word_counts(told: Told) -> None:
    call = told.calls["CAnamed"]
    says_nothing_dead(call)
    heard = [(final.text, final.language, final.language_by) for final, _ in turns_of(call)]
    assert heard == [(text, tag, "stt") for text, tag in zip(NAMED_BY_PROVIDER, (EN, TE, TE), strict=True)]
    assert switches(call) == [(TE, EN, "detected")]
    is_spoken_in(call, [(tag, REPLIES[tag]) for tag in (EN, EN, TE)])


def switches(call: Placed) -> list[tuple[str, str, str]]:
    """To what, from what and why. In which turn depends on the machine: a filler while the words are awaited is one."""
    found = [entry.event for entry in call.entries if isinstance(entry.event, LanguageSwitched)]
    return [(event.language, event.previous, event.reason) for event in found]
