"""The load generator: a benchmark that measures wrongly is worse than none."""

import asyncio
import os
import sys
import threading
import time
from base64 import b64decode, b64encode
from pathlib import Path

import msgspec
import pytest
from picows import WSListener, WSMsgType, ws_create_server

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # bench is not part of the installed package

from bench.caller import DONE, FRAME_S, Caller, Jitter  # noqa: E402
from bench.detector import onset_ms, sent_audio, tails_ms  # noqa: E402
from bench.load import LATE_MS, Generator, Spec, percentile  # noqa: E402
from bench.procstat import busy_ns, cost_of, waited_ns  # noqa: E402
from bench.voice import LINES, noise_frames, utterances  # noqa: E402

from antiphon.media.activity import ActivityBatch  # noqa: E402
from antiphon.media.codec import mulaw_decode, mulaw_encode  # noqa: E402
from antiphon.media.gate import WINDOW_MS, Gate  # noqa: E402
from antiphon.providers.tts.fake import tone  # noqa: E402
from antiphon.runtime.vad import load_weights, lower_priority  # noqa: E402
from bench import caller as caller_module  # noqa: E402

TONE = mulaw_encode(tone(8000, 8000))
SILENCE = b"\xff" * 160


class Line:
    """The server's end of one caller, on virtual time: collects what is sent, plays back what a test says."""

    def __init__(self, number=1):
        self.now = 100.0
        self.sent = []
        self.caller = Caller(number, utterances(), noise_frames(), clock=lambda: self.now)
        self.caller.on_ws_connected(self)

    # what the caller uses of a transport
    def send(self, kind, message):
        assert kind == WSMsgType.TEXT
        self.sent.append((self.now, msgspec.json.decode(message)))

    def send_close(self):
        pass

    def disconnect(self):
        self.caller.on_ws_disconnected(self)

    # what the caller uses of a frame
    msg_type = WSMsgType.TEXT

    def get_payload_as_bytes(self):
        return self._message

    def say(self, event, **fields):
        self._message = msgspec.json.encode({"event": event, "streamSid": self.caller.stream, **fields})
        self.caller.on_ws_frame(self, self)

    def play(self, audio):
        self.say("media", media={"payload": b64encode(audio).decode()})

    def mark(self, name):
        self.say("mark", mark={"name": name})

    def ticks(self, seconds):
        for _ in range(round(seconds / FRAME_S)):
            self.now += FRAME_S
            self.caller.tick(self.now)

    def until_asked(self):
        """Runs until the caller has finished a question."""
        asked = len(self.caller.turns)
        for _ in range(2000):
            self.ticks(FRAME_S)
            if len(self.caller.turns) > asked:
                return
        raise AssertionError("the caller never asked")

    def of(self, event):
        return [(at, message) for at, message in self.sent if message["event"] == event]


def test_speaks_the_protocol_as_documented():
    line = Line()
    line.ticks(10)
    assert [message["event"] for _, message in line.sent[:2]] == ["connected", "start"]
    start = line.sent[1][1]
    assert start["start"]["streamSid"] == start["streamSid"] == line.caller.stream
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    media = line.of("media")
    assert len(media) == 500, "one message each 20 ms, speech or not"
    assert [message["sequenceNumber"] for _, message in media] == [str(n + 2) for n in range(500)]
    assert [message["media"]["chunk"] for _, message in media] == [str(n + 1) for n in range(500)]
    assert [message["media"]["timestamp"] for _, message in media] == [str(20 * n) for n in range(500)]
    assert {len(b64decode(message["media"]["payload"])) for _, message in media} == {160}
    line.caller.finish()
    line.ticks(10)
    assert line.caller.is_answered
    assert line.of("stop") == [], "it waits for the others, as hundreds of calls that end at once are work"
    line.caller.hang_up()
    assert line.sent[-1][1]["event"] == "stop"
    assert line.caller.state == DONE
    assert not line.caller.failed


def test_first_audio_is_measured_to_the_sample():
    line = Line()
    line.until_asked()
    asked = line.caller.turns[0].asked_at
    line.ticks(0.4)
    line.play(SILENCE * 2)  # 40 ms that nobody hears, and 5 ms more
    line.play(SILENCE[:40] + TONE[8:160])
    (turn,) = line.caller.turns
    heard_at = line.now + 0.045
    assert turn.waited_s == pytest.approx(heard_at - asked, abs=0.001)
    assert not turn.talked_over
    assert line.now - 0.4 - 0.020 < asked <= line.now - 0.4, "the end of speech lies in the last frame"


def test_what_comes_early_waits_for_its_turn_to_be_played():
    line = Line()
    line.ticks(0.5)
    line.play(SILENCE * 300)  # six seconds that are not audible: they hold back what follows
    line.until_asked()
    asked, begins = line.caller.turns[0].asked_at, line.caller.played_until
    assert begins > line.now
    line.play(TONE[80:240])
    assert line.caller.turns[0].waited_s == pytest.approx(begins - asked, abs=0.001)


def test_a_turn_without_an_answer_is_lost_and_the_call_goes_on():
    line = Line()
    line.until_asked()
    line.ticks(5.1)
    line.play(TONE[80:240])
    line.until_asked()
    assert [turn.waited_s for turn in line.caller.turns] == [-1.0, -1.0]
    assert line.caller.gaps == 0, "an answer that is far too late is no gap in one"


def test_an_answer_while_the_caller_speaks_is_seen():
    line = Line()
    line.ticks(caller_module.GREETING_S + 0.5)
    line.play(TONE[80:240])
    line.until_asked()
    assert line.caller.turns[0].talked_over


def test_marks_come_back_when_played_and_clear_brings_them_at_once():
    line = Line()
    line.ticks(0.1)
    line.play(TONE)
    line.mark("first")
    line.play(TONE)
    line.mark("second")
    played = line.now
    line.ticks(1.5)
    ((at, message),) = line.of("mark")
    assert message == {"event": "mark", "streamSid": line.caller.stream, "mark": {"name": "first"}}
    assert played + 1.0 <= at <= played + 1.0 + 2 * FRAME_S
    line.say("clear")
    assert [message["mark"]["name"] for _, message in line.of("mark")] == ["first", "second"]
    assert line.caller.played_until == line.now
    assert line.caller.clears == 1


def test_gaps_count_only_when_the_line_runs_dry_inside_an_answer():
    line = Line()
    line.until_asked()
    line.ticks(0.4)
    for late in (0.0, 0.05, 0.10):  # 160 bytes last 20 ms; then the line is dry
        line.play(TONE[80:240])
        line.ticks(0.02 + late)
    line.play(TONE[80:240])
    assert (line.caller.gaps, line.caller.frames) == (1, 4)
    line.until_asked()
    line.ticks(0.4)
    line.play(TONE[80:240])
    assert line.caller.gaps == 1, "the caller's own turn is no gap"


def test_what_comes_later_than_the_line_would_have_it_is_jitter():
    line = Line()
    line.until_asked()
    line.ticks(0.4)
    for pause in (0.02, 0.02, 0.06, 0.02):  # 160 bytes last 20 ms; one frame comes 40 ms late
        line.play(TONE[80:240])
        line.ticks(pause)
    line.play(TONE[80:240] * 10)  # as one message, and the next when it ends: in time
    line.ticks(0.2)
    line.play(TONE[80:240])
    counts = {late: count for late, count in enumerate(line.caller.jitter.counts) if count}
    assert sum(counts.values()) == 5
    assert max(counts) in {39, 40}
    assert counts[max(counts)] == 1
    assert line.caller.jitter.percentile(50) <= 1
    assert line.caller.frames == 5 + 10
    assert Jitter().percentile(99) == -1


def test_a_pause_is_part_of_the_question_and_an_answer_in_it_is_seen():
    for pause_ms, line in zip((0, 500), utterances((0, 500)), strict=True):
        assert len(line.frames) == len(utterances()[0].frames) + pause_ms // 20
    paused = Line()
    paused.caller.utterances = utterances((500,))
    paused.until_asked()
    speech = [b64decode(frame) for frame in utterances((500,))[0].frames]
    quiet = [max(map(abs, memoryview(mulaw_decode(frame)).cast("h"))) < 200 for frame in speech]
    longest = max(len(run) for run in "".join("q" if q else "s" for q in quiet).split("s"))
    assert 24 <= longest <= 30, "one pause of half a second, and a little that was quiet before"


def test_the_detector_is_asked_what_it_needs_to_hear_the_end_of_a_question():
    line = Line()
    for _ in range(3):
        line.until_asked()
        line.ticks(0.5)
        line.play(TONE)
        line.ticks(1.2)
    sent = b"".join(b64decode(message["media"]["payload"]) for _, message in line.of("media"))
    assert sent_audio(line.caller) == sent
    (tails,) = tails_ms([line.caller])
    assert len(tails) == 3
    assert all(tail is not None and -WINDOW_MS < tail < 130 for tail in tails)
    assert tails_ms([]) == []


def test_the_voice_of_the_providers_swells_for_a_quarter_of_a_millisecond():
    line = Line()
    line.until_asked()
    line.play(mulaw_encode(tone(8000, 800)))
    waited_ms = 1000 * line.caller.turn.waited_s
    before_ms = 1000 * (line.now - line.caller.turn.asked_at)
    assert waited_ms - before_ms == pytest.approx(onset_ms())
    assert onset_ms() == 0.25


def test_nonsense_is_counted_and_a_lost_line_is_a_failed_call():
    line = Line()
    line._message = b"{"
    line.caller.on_ws_frame(line, line)
    assert line.caller.bad == 1
    line.caller.on_ws_disconnected(line)
    line.ticks(1)
    assert line.caller.failed


def test_every_line_of_the_callers_is_heard_as_one_utterance_with_a_clear_end():
    """Else turns would be answered early, and the waits would tell recordings apart instead of servers."""
    weights, quiet = load_weights(), b"".join(b64decode(frame) for frame in noise_frames())
    assert len(utterances()) == len(LINES)
    for utterance in utterances():
        speech = b"".join(b64decode(frame) for frame in utterance.frames)
        assert max(map(abs, memoryview(mulaw_decode(speech)).cast("h"))) > 8000
        batch, gate, edges, ends_ms = ActivityBatch(weights), Gate(), [], []
        audio = b""
        for pause in range(8):
            audio += quiet * 3 + quiet[: 777 * pause] + speech
            ends_ms.append(len(audio) / 8 - utterance.tail_ms)
        audio += quiet
        for start in range(0, len(audio) - 255, 256):
            edge = gate.step(batch.step([0], [("mulaw", audio[start : start + 256])])[0])
            edges += [edge] if edge else []
        assert [edge.kind for edge in edges] == ["started", "stopped"] * 8
        late_ms = [edge.position_ms - end for edge, end in zip(edges[1::2], ends_ms, strict=True)]
        assert min(late_ms) > 0
        assert max(late_ms) < 130
        assert max(late_ms) - min(late_ms) < 90


def test_threads_are_told_apart_and_cost_what_they_cost():
    def burn():
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass

    def niced():
        lower_priority()
        burn()
        done.set()
        hold.wait(10)

    done, hold = threading.Event(), threading.Event()
    before = cost_of(os.getpid())
    thread = threading.Thread(target=niced)
    thread.start()
    assert done.wait(10)
    burn()
    after = cost_of(os.getpid())
    hold.set()
    thread.join()
    assert 0.045e9 <= after.loop_ns - before.loop_ns < 1e9
    assert 0.045e9 <= after.vad_ns - before.vad_ns < 1e9
    assert after.total_ns >= after.loop_ns + after.vad_ns
    assert after.rss_kb > 10_000
    with pytest.raises(ProcessLookupError):
        cost_of(2**22 + 1)


def test_the_machine_and_the_wait_for_a_core_are_read():
    before, waited = busy_ns(), waited_ns(os.getpid())
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    assert busy_ns() - before >= 0.07e9, "counted in ticks of ten ms"
    assert waited_ns(os.getpid()) >= waited >= 0
    assert waited_ns(2**22 + 1) == 0


def test_percentiles_are_values_that_occurred():
    assert percentile([], 99) == -1
    assert percentile([5], 50) == percentile([5], 99) == 5
    values = list(range(1, 101))
    assert [percentile(values, share) for share in (0, 50, 99, 100)] == [1, 50, 99, 100]


class Agent(WSListener):
    """A stand-in server: answers 300 ms after the caller fell silent, with half a second of tone, sent ahead."""

    def __init__(self):
        self.quiet_ms = 0
        self.spoken = False
        self.marks = 0

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.disconnect()
            return
        message = msgspec.json.decode(frame.get_payload_as_bytes())
        if message["event"] == "mark":
            self.marks += 1
        if message["event"] != "media":
            return
        samples = memoryview(mulaw_decode(b64decode(message["media"]["payload"]))).cast("h")
        if max(map(abs, samples)) > 250:  # the recordings end where they fall below 300
            self.spoken, self.quiet_ms = True, 0
            return
        self.quiet_ms += 20
        if self.spoken and self.quiet_ms >= 300:
            self.spoken = False
            self.answer(transport, message["streamSid"])

    def answer(self, transport, stream):
        for start in range(0, 4000, 160):
            payload = b64encode(TONE[start : start + 160]).decode()
            self.send(transport, {"event": "media", "streamSid": stream, "media": {"payload": payload}})
        self.send(transport, {"event": "mark", "streamSid": stream, "mark": {"name": "end"}})

    def send(self, transport, message):
        transport.send(WSMsgType.TEXT, msgspec.json.encode(message))


def test_measures_a_real_server(monkeypatch):
    monkeypatch.setattr(caller_module, "GREETING_S", 0.1)

    async def main():
        agents = []

        def listener(_request):
            agents.append(Agent())
            return agents[-1]

        server = await ws_create_server(listener, "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/media-stream"
        spec = Spec(url=url, calls=6, ramp_s=1.0, seconds=3.0, endpoint_ms=300.0, server_pid=os.getpid())
        found = await Generator(spec).run()
        server.close()
        return found, agents

    found, agents = asyncio.run(main())
    assert (found.calls, found.failed_calls, found.lost_turns, found.bad_messages) == (6, 0, 0, 0)
    assert found.turns >= 1  # a busy machine's calls hardly get further in three seconds
    # 300 ms of quiet from the end of the frame in which the speech ends, so up to 20 ms more from its last sample.
    assert min(found.waits) >= 295
    assert found.first_audio_p50 <= 400
    assert found.added_p50 == pytest.approx(found.first_audio_p50 - 300, abs=0.02)
    assert found.gaps == 0
    assert 0 <= found.jitter_p99 < 200
    assert found.own_p50 == -1, "nobody asked for it"
    assert found.agent_frames >= 25
    assert sum(agent.marks for agent in agents) >= 1
    assert 0 < found.cpu_ms_per_call_s < 300
    assert found.load_late_p99 >= 0
    assert found.load_unfit or found.load_late_p99 <= LATE_MS, "on a busy machine it says so"


def test_measures_the_floor():
    async def main():
        class Back(WSListener):
            def on_ws_frame(self, transport, frame):
                if frame.msg_type != WSMsgType.CLOSE:
                    transport.send(frame.msg_type, frame.get_payload_as_bytes())

        server = await ws_create_server(lambda _request: Back(), "127.0.0.1", 0)
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        found = await Generator(Spec(url=url, calls=5, ramp_s=0.1, seconds=1.0, echo=True)).run()
        server.close()
        return found

    found = asyncio.run(main())
    assert found.failed_calls == 0
    assert 0 < found.first_audio_p50 <= found.first_audio_p99 < 500
