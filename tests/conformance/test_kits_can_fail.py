"""The kits themselves: sound providers pass, and each check finds the provider that breaks its rule."""

import asyncio
import re
from contextlib import suppress
from typing import Any

import pytest
from broken_answers import INTENT, LLM, RETRIEVAL, SOUND
from broken_lines import LINE, VAD, Loudness, Opus, Wire, WithoutMarks, far_end
from broken_speech import STT, TTS, Broken, Voice, transcriber
from virtual_loop import run as run_virtually

from antiphon.conformance import KITS, ConformanceError, Kit, Sample, Subject, examine, report, run
from antiphon.conformance.checks import soon
from antiphon.errors import ProviderError
from antiphon.providers.intent.none import NoClassifier
from antiphon.providers.registry import BUILT_IN
from antiphon.stores.memory import MemoryJournal

BROKEN: dict[str, list[Broken]] = {
    "stt": STT,
    "tts": TTS,
    "llm": LLM,
    "intent": INTENT,
    "retrieval": RETRIEVAL,
    "line": LINE,
    "vad": VAD,
}
CASES = [(port, *broken) for port, listed in BROKEN.items() for broken in listed]


def only(port: str, check: str) -> Kit[Any]:
    return Kit(port, tuple(each for each in KITS[port].checks if each.__name__ == check))


@pytest.mark.parametrize(
    ("port", "make"),
    [
        ("stt", transcriber()),
        ("tts", Voice),
        *SOUND.items(),
        ("line", far_end(Wire)),
        ("line", far_end(WithoutMarks)),
        ("vad", Loudness),
    ],
)
def test_what_the_broken_ones_are_made_of_is_sound(port: str, make: Any) -> None:
    results = run_virtually(examine(KITS[port], make))
    assert all(result.passed for result in results), report(results)


@pytest.mark.parametrize(
    ("port", "check", "make", "says"), CASES, ids=[f"{case[0]}-{case[1]}-{number}" for number, case in enumerate(CASES)]
)
def test_each_check_finds_a_broken_provider(port: str, check: str, make: Any, says: str) -> None:
    (result,) = run_virtually(examine(only(port, check), make))
    assert re.search(says, result.error), result.error or "the check passed"


@pytest.mark.parametrize("port", BROKEN)
def test_no_check_goes_without_a_provider_that_fails_it(port: str) -> None:
    checks = [check.__name__ for check in KITS[port].checks]
    assert sorted({check for check, _, _ in BROKEN[port]}) == sorted(checks)
    assert len(set(checks)) == len(checks)


def test_every_check_says_what_is_owed() -> None:
    for port, kit in KITS.items():
        for check in kit.checks:
            obligation = " ".join((check.__doc__ or "").split())
            assert port == "journal" or len(obligation) > 60, check.__name__
            assert "\n\n" not in (check.__doc__ or ""), f"{check.__name__}: one paragraph"


def test_there_is_a_kit_for_every_kind_of_provider() -> None:
    assert set(BUILT_IN) < set(KITS)


# -- the runner ---------------------------------------------------------------------------------


class Unwilling(NoClassifier):
    async def start(self) -> None:
        raise ProviderError("no key", code="intent.refused")


async def hangs(subject: Subject[Any]) -> None:
    """Waits for ever."""
    await asyncio.sleep(3600)


async def times_out(subject: Subject[Any]) -> None:
    """Raises the provider's own timeout."""
    raise TimeoutError("the provider's")


async def spins(subject: Subject[Any]) -> None:
    """Takes no notice of the time."""

    async def deaf() -> None:
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3)

    await soon(deaf(), "a deaf step")


def test_a_provider_that_does_not_start_fails_every_check_and_stops_none() -> None:
    results = run(KITS["intent"], Unwilling)
    assert len(results) == len(KITS["intent"].checks)
    assert all("no key" in result.error for result in results)


def test_a_check_that_hangs_is_a_finding() -> None:
    hung, timed, deaf = run_virtually(examine(Kit("any", (hangs, times_out, spins)), NoClassifier))
    assert hung.error == "not over after 20 s"
    assert hung.seconds == 20
    assert timed.error == 'raised TimeoutError("the provider\'s")'
    assert deaf.error == "a deaf step: took 4.0 s"


def test_a_report_names_the_check_the_finding_and_the_obligation() -> None:
    results = run(Kit("intent", KITS["intent"].checks[:1]), Unwilling)
    lines = report(results).splitlines()
    assert re.fullmatch(r"FAIL intent.gives_a_sound_intent \(\d+\.\d\d s\)", lines[0])
    assert "no key" in lines[1]
    assert lines[2].strip().startswith("The result is an ``Intent``")
    assert report(run(Kit("intent", KITS["intent"].checks[:1]), NoClassifier)).startswith("ok   intent.")


def test_a_failed_check_is_an_assertion_for_those_who_call_it_themselves() -> None:
    check = only("line", "says_what_it_is").checks[0]
    with pytest.raises(AssertionError, match="no codec") as found:
        asyncio.run(check(Subject(far_end(Opus))))
    assert type(found.value) is ConformanceError


def test_a_journal_that_does_not_keep_what_it_is_given_is_found() -> None:
    class Forgets(MemoryJournal):
        async def append(self, batches: Any) -> Any:
            return [None for _ in batches]

    failed = [result for result in run(KITS["journal"], Forgets) if not result.passed]
    assert "keeps_entries_in_order" in [result.check for result in failed]
    assert not any(result.error.startswith("raised") for result in failed[:1]), failed[0].error


def test_a_sample_has_a_voice_of_its_own() -> None:
    assert len(Sample().speech) > 8000
    assert Sample().speech == Sample().speech
