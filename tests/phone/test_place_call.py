"""The telephone against a scripted agent, over real sockets in real time.

The calls are placed all at once, by one fixture, because each of them takes seconds.
"""

import asyncio
import itertools
import wave
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted_agent import ScriptedAgent, tone
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from antiphon.phone import (
    Backchannel,
    CallReport,
    Digits,
    HangUp,
    Manners,
    PhoneEvent,
    PhoneScript,
    Play,
    Say,
    Wait,
    place_call,
)
from antiphon.phone.caller import CallFailed
from antiphon.phone.voices import Voices
from antiphon.runtime.ports import Sound

LINE = Play(tone(400, 700), "a line")
QUICK = Manners(quiet_s=0.25, reply_s=1.5, greeting_s=1.0)


class ToneVoice:
    """A synthesizer whose every text is a tone."""

    name = "tone"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def start(self) -> None: ...

    async def synthesize(self, text: str, *, language: str, sample_rate: int, voice: str = "") -> AsyncIterator[Sound]:
        assert sample_rate == 8000
        self.asked.append((text, language))
        yield Sound(tone(300, 900))
        yield Sound(tone(30, 900))

    async def close(self) -> None: ...


class Scene:
    """One agent, one script, and what came of them."""

    def __init__(self, agent: ScriptedAgent, *steps: Any, manners: Manners = QUICK, **options: Any) -> None:
        self.agent = agent
        self.language = options.pop("language", "en-IN")
        self.script = PhoneScript(steps, language=self.language, manners=manners)
        self.options = options
        self.events: list[PhoneEvent] = []
        self.connected_at = 0.0
        self.voice = ToneVoice()
        self.report: CallReport = CallReport(call_id="", url="")

    async def play(self) -> None:
        async with self.agent.serving() as url, Voices(self.voice) as voices:
            self.report = await place_call(url, self.script, voices=voices, on_event=self.note, **self.options)

    def note(self, event: PhoneEvent) -> None:
        self.connected_at = self.connected_at or asyncio.get_running_loop().time()
        self.events.append(event)


def scenes(recording: Path) -> dict[str, Scene]:
    return {
        "conversation": Scene(
            ScriptedAgent(hangover_ms=200, delay_ms=100),
            LINE,
            Play(tone(300, 700), "another"),
            record=recording,
            call_id="CA1",
            parameters={"campaign": "spring"},
        ),
        "real time": Scene(ScriptedAgent(), LINE, Wait(0.5)),
        "barge-in": Scene(
            ScriptedAgent(reply_ms=3000), LINE, Play(tone(500, 700), "wait", barge_in_s=0.5), HangUp(after_s=0.2)
        ),
        "marks": Scene(ScriptedAgent(greeting_ms=500), Wait(0.8)),
        "backchannel": Scene(
            ScriptedAgent(reply_ms=1500, yields=False, least_ms=380), LINE, Backchannel("mm-hm", after_s=0.4)
        ),
        "doubt": Scene(
            ScriptedAgent(reply_ms=1000, hangover_ms=600), LINE, Backchannel("mm-hm", after_s=0.4), HangUp(after_s=9)
        ),
        "voice": Scene(ScriptedAgent(), Say("namaste"), Say("hello", "en-US"), Say("namaste"), language="hi-IN"),
        "digits": Scene(ScriptedAgent(), Digits("12#")),
        "mute": Scene(
            ScriptedAgent(mute=True, greeting_ms=0), LINE, manners=Manners(quiet_s=0.2, greeting_s=0.2, reply_s=0.4)
        ),
        "agent hangs up": Scene(ScriptedAgent(close_after=2), LINE, LINE, LINE),
        "caller hangs up": Scene(ScriptedAgent(reply_ms=5000), LINE, HangUp(after_s=0.3), LINE),
        "time limit": Scene(ScriptedAgent(mute=True), Wait(60), timeout_s=0.5),
    }


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scene]:
    made = scenes(tmp_path_factory.mktemp("calls") / "call.wav")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for scene in made.values():
                group.create_task(scene.play())

    asyncio.run(main())
    return made


def test_a_conversation_is_measured_where_it_is_heard(played: dict[str, Scene]):
    scene = played["conversation"]
    report, agent = scene.report, scene.agent
    greeting, first, second = report.turns
    assert report.ended_by == "caller"
    assert report.all_answered
    assert greeting.reply_ms == pytest.approx(300, abs=5)
    for turn in (first, second):
        assert turn.latency_ms is not None
        assert 285 <= turn.latency_ms <= 420, "200 ms of hangover, 100 ms of delay, and a little way"
        assert turn.reply_ms == pytest.approx(600, abs=20)
        assert turn.longest_gap_ms < 20
    started = agent.messages[1]
    assert started["start"]["callSid"] == "CA1"
    assert started["start"]["customParameters"] == {"language": "en-IN", "campaign": "spring"}
    assert [m["event"] for m in agent.messages] == ["connected", "start", "mark", "mark", "mark", "stop"]
    assert report.marks == 3
    kinds = [event.kind for event in scene.events]
    assert kinds[:3] == ["connected", "agent_speaking", "agent_quiet"]
    assert kinds.count("turn") == 3
    assert [turn.said for turn in report.turns] == ["", "a line", "another"]


def test_the_recording_has_both_channels_in_step(played: dict[str, Scene]):
    scene = played["conversation"]
    latency_ms = scene.report.turns[1].latency_ms
    with wave.open(str(scene.options["record"])) as file:
        assert (file.getnchannels(), file.getframerate(), file.getsampwidth()) == (2, 8000, 2)
        both = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2).astype(np.int32)
    caller, agent = np.flatnonzero(np.abs(both[:, 0]) > 400), np.flatnonzero(np.abs(both[:, 1]) > 400)
    line_end = caller[np.flatnonzero(np.diff(caller) > 1600)[0]]
    reply = agent[agent > line_end][0]
    assert (reply - line_end) / 8 == pytest.approx(latency_ms, abs=1)


def test_the_callers_channel_is_real_time_and_never_pauses(played: dict[str, Scene]):
    agent, report = played["real time"].agent, played["real time"].report
    frames = len(agent.sent_at)
    spanned = (agent.sent_at[-1] - agent.sent_at[0]) * 1000
    assert spanned == pytest.approx((frames - 1) * 20, abs=60)
    assert max(b - a for a, b in itertools.pairwise(agent.sent_at)) < 0.15
    assert len(agent.audio) == frames * 160
    assert report.duration_ms == pytest.approx(frames * 20, abs=40)
    assert agent.audio.count(0xFF) > len(agent.audio) * 0.5, "between lines it is silence, not nothing"


def test_a_barge_in_clears_the_reply_and_gets_its_marks_back(played: dict[str, Scene]):
    report = played["barge-in"].report
    _, first, second = report.turns
    assert report.clears == 1
    assert first.interrupted
    assert first.reply_ms == pytest.approx(500 + 200, abs=100)
    assert second.barged_in
    assert second.stopped_ms == pytest.approx(200, abs=100)
    assert second.latency_ms is not None
    names = [name for _, name in played["barge-in"].agent.marks]
    assert names[:2] == ["greeting", "reply 1"], "the mark of what was cleared comes back"


def test_a_mark_comes_back_when_its_audio_was_heard(played: dict[str, Scene]):
    (at, name), *_ = played["marks"].agent.marks
    assert name == "greeting"
    assert at - played["marks"].connected_at == pytest.approx(0.5, abs=0.08)


def test_a_backchannel_is_no_turn(played: dict[str, Scene]):
    report = played["backchannel"].report
    _, turn = report.turns
    assert turn.backchannels == ("mm-hm",)
    assert turn.reply_ms == pytest.approx(1500, abs=20)
    assert not turn.interrupted
    assert report.clears == 0


def test_a_caller_who_murmured_waits_for_the_agent_to_go_on(played: dict[str, Scene]):
    """This agent stops for the murmur and speaks again 700 ms later, which is longer than ``quiet_s``."""
    turn = played["doubt"].report.turns[-1]
    assert turn.longest_gap_ms > 600
    assert turn.reply_ms > 400 + 600 + 1000


def test_lines_are_spoken_by_the_voice_in_their_language(played: dict[str, Scene]):
    scene = played["voice"]
    assert scene.voice.asked == [("namaste", "hi-IN"), ("hello", "en-US")], "a line is made once"
    assert [turn.said for turn in scene.report.replies] == ["namaste", "hello", "namaste"]
    assert scene.report.all_answered


def test_digits(played: dict[str, Scene]):
    scene = played["digits"]
    assert [m["dtmf"]["digit"] for m in scene.agent.messages if m["event"] == "dtmf"] == ["1", "2", "#"]
    (turn,) = scene.report.replies
    assert (turn.kind, turn.said, turn.answered) == ("digits", "12#", True)


def test_an_agent_that_does_not_answer(played: dict[str, Scene]):
    report = played["mute"].report
    (turn,) = report.replies
    assert not turn.answered
    assert not report.all_answered
    assert report.ended_by == "caller"
    assert not report.turns[0].answered
    assert "no_reply" in [event.kind for event in played["mute"].events]


def test_an_agent_that_hangs_up(played: dict[str, Scene]):
    report = played["agent hangs up"].report
    assert (report.ended_by, report.close_code, report.close_reason) == ("agent", 1000, "goodbye")
    assert report.unsaid == 1
    assert not report.all_answered


def test_a_caller_who_hangs_up_in_mid_reply(played: dict[str, Scene]):
    scene = played["caller hangs up"]
    assert scene.report.ended_by == "caller"
    assert scene.agent.ended == "stop"
    assert scene.report.turns[-1].reply_ms == pytest.approx(300, abs=80)
    assert len(scene.report.replies) == 1


def test_a_call_has_a_time_limit(played: dict[str, Scene]):
    report = played["time limit"].report
    assert report.ended_by == "timeout"
    assert report.duration_ms < 2000


def test_the_report_as_json_has_no_audio(played: dict[str, Scene]):
    report = played["conversation"].report
    plain = report.as_dict()
    assert plain["all_answered"] is True
    assert plain["latency_ms"]["count"] == 2  # type: ignore[index]
    assert "audio" not in plain["turns"][1]  # type: ignore[index]
    assert report.turns[1].audio


def test_a_call_that_cannot_be_placed_says_why():
    async def main() -> CallReport:
        return await place_call("ws://127.0.0.1:1/media-stream", PhoneScript((LINE,)))

    report = asyncio.run(main())
    assert report.ended_by == "failed"
    assert "antiphon serve" in report.error
    assert not report.all_answered


def test_a_server_that_refuses_is_told_from_one_that_is_not_there():
    async def main() -> CallReport:
        def refuse(connection: ServerConnection, request: Request) -> Response:
            return connection.respond(403, '{"code": "auth.twilio_signature"}')

        async with serve(lambda socket: socket.wait_closed(), "127.0.0.1", 0, process_request=refuse) as server:
            port = server.sockets[0].getsockname()[1]
            return await place_call(f"ws://127.0.0.1:{port}/media-stream", PhoneScript((LINE,)))

    report = asyncio.run(main())
    assert report.ended_by == "failed"
    assert "does not take the call" in report.error
    assert "403" in report.error
    assert "auth.twilio_signature" in report.error
    assert "antiphon serve" not in report.error


@pytest.mark.parametrize("step", [Say("no voice given"), Play(b"\0\0" * 800), Backchannel()])
def test_a_script_that_cannot_be_spoken_is_refused_before_dialling(step: Any):
    with pytest.raises(CallFailed):
        asyncio.run(place_call("ws://127.0.0.1:1/media-stream", PhoneScript((step,))))


def test_many_calls_at_once_keep_time():
    agent = ScriptedAgent()

    async def main() -> list[CallReport]:
        async with agent.serving() as url:
            script = PhoneScript((LINE,), manners=QUICK)
            return await asyncio.gather(*(place_call(url, script) for _ in range(10)))

    reports = asyncio.run(main())
    assert agent.connections == 10
    assert all(report.all_answered for report in reports)
    assert max(report.latencies[0] for report in reports) < 400
