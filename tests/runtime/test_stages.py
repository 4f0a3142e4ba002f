"""The stages of a process: which providers they hold, by which limits, and what is told of them."""

from __future__ import annotations

from call_parts import Answers, DeafTranscriber, in_pieces

from antiphon.errors import ProviderError
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import Limits, Providers, Stages
from antiphon.sim.providers import SimClassifier, SimResponder, SimRetriever, SimSynthesizer


def stages(**more: object) -> Stages:
    providers = Providers(
        transcribers=(DeafTranscriber(),),  # type: ignore[arg-type]
        responders=(SimResponder("first"), Answers(lambda request, act: in_pieces("Fine."))),
        degraded=SimResponder("degraded"),
        synthesizers=(SimSynthesizer("voice"), SimSynthesizer("voice")),
        **more,  # type: ignore[arg-type]
    )
    return Stages(providers, final_s=1.2)


def test_status_is_by_stage_and_provider() -> None:
    status = stages(classifier=SimClassifier("intents"), retriever=SimRetriever("passages")).status()
    assert {stage: list(members) for stage, members in status.items()} == {
        "stt": ["deaf"],
        "llm": ["first", "answers"],
        "tts": ["voice", "voice#2"],
        "intent": ["intents"],
        "retrieval": ["passages"],
    }
    assert status["llm"]["first"] == {
        "state": "closed",
        "failure_count": 0,
        "failure_threshold": 5,
        "timeout": 60.0,
        "retry_in": 0.0,
        "p95_ms": None,
    }


def test_stages_that_are_not_there_are_not_told_of() -> None:
    assert list(stages().status()) == ["stt", "llm", "tts"]


def test_status_shows_what_is_left_alone() -> None:
    these = stages()
    these.llm.members[1].breaker.failed()
    for _ in range(these.tts.policy.failures):
        these.tts.members[0].book(ProviderError("down", code="tts.down"))
    status = these.status()
    assert [status["llm"]["answers"][key] for key in ("state", "failure_count")] == ["closed", 1]
    assert status["tts"]["voice"]["state"] == "open"
    assert 29 < status["tts"]["voice"]["retry_in"] <= 30
    assert status["tts"]["voice#2"]["state"] == "closed", "a breaker is one provider's"


def test_each_stage_has_its_own_limits() -> None:
    these = stages(limits=Limits(llm=StagePolicy(failures=2), stt=StagePolicy(open_s=7.0)))
    assert these.llm.members[0].breaker.failure_threshold == 2
    assert these.degraded.members[0].breaker.failure_threshold == 2
    assert these.stt.members[0].breaker.timeout == 7.0
    assert these.tts.members[0].breaker.failure_threshold == 5


def test_the_transcribers_are_one_to_the_ear() -> None:
    these = stages()
    assert (these.transcriber.name, these.transcriber.chain, these.transcriber.final_s) == ("deaf", these.stt, 1.2)
