"""Visitors of ``/orchestrate``: that they say what the protocol asks for, and that their stopwatch is right."""

import heapq
import os
import xml.etree.ElementTree as ET

import msgspec
import pytest
from bench.ledger import NEAR_MS, SEQUENTIAL, WAYS, row_of
from bench.server import Delays, antiphon
from bench.service import Service, is_faulty, steps, write
from bench.visiting import visit
from bench.visitor import Manner, Turn, Visitor, waited_s
from bench.visits import Times, Visits, times
from picows import WSMsgType

from bench import document, ledger, plot_ledger, service, text

BUDGET = Manner(stt_s=0.05, endpoint_s=0.12)


class Line:
    """The server's end of one visitor, on virtual time."""

    def __init__(self, manner=BUDGET, number=0, first_s=0.5):
        self.now = 100.0
        self.sent = []
        self._timers = []
        self.visitor = Visitor(number, manner, first_s, self.later, clock=lambda: self.now)
        self.visitor.on_ws_connected(self)
        self.tell({"type": "connected", "state": "LISTENING"})

    def later(self, seconds, then):
        heapq.heappush(self._timers, (self.now + seconds, len(self._timers) + id(then), then))

    def run(self, seconds):
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            self.now, _, then = heapq.heappop(self._timers)
            then()
        self.now = end

    # what a visitor uses of a transport
    def send(self, kind, message):
        assert kind == WSMsgType.TEXT
        self.sent.append((round(self.now - 100.0, 3), msgspec.json.decode(message)))

    def send_close(self, *_):
        self.sent.append((round(self.now - 100.0, 3), {"type": "close"}))

    def disconnect(self):
        self.visitor.on_ws_disconnected(self)

    # what it uses of a frame
    def get_payload_as_bytes(self):
        return self._data

    def get_close_code(self):
        return 1001

    def tell(self, message, kind=WSMsgType.TEXT):
        self._data = message if isinstance(message, bytes) else msgspec.json.encode(message)
        self.msg_type = kind
        self.visitor.on_ws_frame(self, self)

    def sound(self):
        self.tell(bytes(320), WSMsgType.BINARY)

    def answer(self, turn=1):
        self.tell({"type": "response", "turn_id": turn, "text": "Yes.", "complete": False})

    def state(self, state):
        self.tell({"type": "state", "state": state, "turn_id": 1, "at_ms": 0})


def test_words_come_after_the_recogniser_and_the_end_of_the_turn_after_the_silence():
    line = Line()
    line.run(1.0)
    assert [(at, message["type"]) for at, message in line.sent] == [
        (0.5, "stt_fragment"),
        (0.7, "stt_fragment"),
        (0.82, "vad_end"),
    ]
    guess, words = line.sent[0][1], line.sent[1][1]
    assert (guess["is_final"], words["is_final"]) == (False, True)
    assert words["text"].startswith(guess["text"])


def test_the_wait_runs_from_the_end_of_speech_to_the_first_sound():
    line = Line()
    line.run(0.9)
    line.state("THINKING")
    line.answer()
    line.run(0.1)
    assert waited_s(line.visitor.turns[0], BUDGET) == -1, "nothing is heard yet"
    line.sound()
    line.run(1.0)
    line.sound()
    turn = line.visitor.turns[0]
    assert waited_s(turn, BUDGET) == pytest.approx(0.05 + 0.3), "50 ms before the words, at 0.7; heard at 1.0"
    assert turn.answered_at - turn.over_at == pytest.approx(0.08)
    read = msgspec.structs.replace(BUDGET, sound=False)
    assert waited_s(turn, read) == pytest.approx(0.05 + 0.2)


def test_an_answer_that_comes_before_the_turn_is_over_is_none_of_it():
    line = Line()
    line.run(0.75)
    line.sound()
    line.answer()
    assert line.visitor.turns[0].heard_at == line.visitor.turns[0].answered_at == -1


def test_the_next_turn_waits_for_the_floor_and_a_pause():
    line = Line()
    line.run(0.9)
    line.answer()
    line.sound()
    line.run(1.0)
    assert len(line.sent) == 3, "the agent has the floor"
    line.state("LISTENING")
    line.run(0.5)
    assert [message["type"] for _, message in line.sent[3:]] == ["stt_fragment", "stt_fragment", "vad_end"]
    assert line.sent[3][0] == pytest.approx(1.9 + 0.1)


def test_a_period_is_kept_whatever_the_answer_takes():
    line = Line(Manner(period_s=10.0))
    for _ in range(3):
        line.run(5.0)
        line.answer()
        line.sound()
        line.run(5.0)
    assert [at for at, message in line.sent if message["type"] == "vad_end"] == [0.7, 10.7, 20.7]


def test_an_answer_that_does_not_come_is_lost_and_the_visitor_goes_on():
    line = Line()
    line.run(60.0)
    lost = line.visitor.turns
    assert len(lost) == 3, "one every twenty seconds"
    assert [waited_s(turn, BUDGET) for turn in lost] == [-1.0, -1.0, -1.0]
    late = Turn(words_at=1.0, over_at=1.1, heard_at=6.2)
    assert waited_s(late, BUDGET) == -1.0


def test_the_servers_ledger_is_kept_with_its_turn():
    line = Line()
    line.run(0.9)
    line.answer(7)
    line.tell({"type": "latency", "turn_id": 7, "total_ms": 3, "parts": [{"name": "stt", "ms": 3, "owner": "x"}]})
    line.tell({"type": "latency", "turn_id": 9, "total_ms": 3, "parts": [{"name": "stt", "ms": 9, "owner": "x"}]})
    assert line.visitor.turns[0].parts == {"stt": 3.0}


def test_whoever_leaves_says_so_and_is_no_failure():
    line = Line()
    line.visitor.leave()
    assert [message["type"] for _, message in line.sent] == ["end", "close"]
    assert not line.visitor.failed
    line.run(5.0)
    assert len(line.sent) == 2
    cut_off = Line()
    cut_off.tell(b"", WSMsgType.CLOSE)
    assert cut_off.visitor.failed
    assert cut_off.visitor.is_answered


def test_nonsense_and_errors_are_counted():
    line = Line()
    line.tell(b"{")
    line.tell({"type": "error", "code": "session.other", "message": "no"})
    assert (line.visitor.bad, line.visitor.errors) == (1, 1)


# -- the ledger -----------------------------------------------------------------------------------


def visits(**changes):
    some = Times(50.0, 60.0, 70.0)
    plain = {
        "sessions": 1, "refused": 0, "failed": 0, "seconds": 10.0, "turns": 200, "lost_turns": 0, "errors": 0,
        "let_in": some, "waits": Times(430.0, 440.0, 450.0), "added": Times(5.0, 20.0, 30.0), "answered": some,
        "endpointing": Times(120.0, 121.0, 122.0), "parts": {"understanding": Times(81.0), "first_text": Times(101.0),
        "synthesis": Times(76.0)}, "every_wait": [430.0], "cpu_ms_per_session_s": 1.0, "core_percent": 10.0,
        "rss_kb_per_session": 200.0, "load_core_percent": 5.0, "load_late_p99": 1.0, "load_unfit": False,
        "others_percent": 0.0,
    }  # fmt: skip
    return Visits(**{**plain, **changes})


TOTALS = {"sequential": 480.0, "parallel": 430.0, "speculative": 310.0}


def rows(**changed):
    totals = {**TOTALS, **changed}
    return [row_of(way, visits(waits=Times(totals[way.name], 500.0, 510.0))) for way in WAYS]


def test_the_floor_is_what_cannot_overlap():
    assert [way.floor_ms(120) for way in WAYS] == [475, 425, 305]
    assert WAYS[2].floor_ms(300) == 350, "the silence may be what takes longest"
    assert SEQUENTIAL.retrieval_ms == 130
    late = row_of(WAYS[1], visits(endpointing=Times(123.0, 130.0, 131.0)))
    assert late.floor == 428, "the visitors' own lateness is not the server's"


def test_the_lines_add_up_to_the_total():
    for row in rows():
        assert sum(times.p50 for times in row.lines.values()) == pytest.approx(row.visits.waits.p50)
    assert sum(plot_ledger.spans(rows()[1]).values()) == pytest.approx(430)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"parallel": 425.1 + NEAR_MS}, "above the stages"),
        ({"parallel": 446.0}, "in all (budget 445)"),
        ({"parallel": 446.0}, "take 141 ms"),
        ({"sequential": 470.0}, "side by side saves 40 ms"),
        ({"speculative": 431.0}, "answering ahead"),
    ],
)
def test_each_target_that_is_missed_is_named(changed, words):
    assert [line for line in ledger.verdicts(rows()) if line.startswith("NOT")] == []
    missed = [line for line in ledger.verdicts(rows(**changed)) if line.startswith("NOT reached: ")]
    assert any(words in line for line in missed), missed


def test_a_lost_turn_reaches_nothing():
    row = row_of(WAYS[1], visits(lost_turns=1))
    assert ledger.verdicts([row])[0].startswith("NOT reached: ")
    assert is_faulty(visits(lost_turns=1))
    assert is_faulty(visits(turns=0))
    assert not is_faulty(visits())


@pytest.mark.parametrize(
    "changes",
    [{"added": Times(5.0, 50.1, 60.0)}, {"refused": 1}, {"failed": 1}, {"lost_turns": 1}, {"errors": 1}, {"turns": 0}],
)
def test_visitors_that_are_not_served_in_time_are_told(changes):
    assert text.verdicts({"spread": visits()})[0].startswith("reached")
    assert text.verdicts({"spread": visits(**changes)})[0].startswith("NOT reached")


def test_rows_fit_under_their_head_and_tell_what_is_doubtful():
    assert len(ledger.line(rows()[1])) == len(ledger.HEAD.splitlines()[1])
    assert len(text.line("at once", visits())) == len(text.HEAD.splitlines()[1])
    doubtful = ledger.line(row_of(WAYS[1], visits(load_unfit=True, others_percent=80.0, refused=2, errors=3)))
    for words in ("LOAD GENERATOR LATE", "others 80 %", "2 REFUSED", "3 ERRORS"):
        assert words in doubtful


def test_tables_are_markdown_with_as_many_cells_in_each_row():
    for lines in (ledger.table(rows()), text.table({"spread": visits()})):
        assert len({line.count("|") for line in lines}) == 1


def test_the_picture_is_well_formed_and_its_bars_end_at_the_total():
    root = ET.fromstring(plot_ledger.draw(rows(), "2026-11-21T10:00:00Z"))  # noqa: S314 - our own
    words = [element.text for element in root.iter() if element.text]
    for name in ("parallel, 1 session", "430", "budget 445", "intent and retrieval"):
        assert name in words
    assert plot_ledger.draw([], "2026-11-21").endswith("</svg>\n")


def test_files_survive_and_the_page_shows_the_newest_of_each(tmp_path):
    found = Service(at="2026-11-21T10:00:00Z", command="python -m bench --ledger", python="3.11", cpu="c", versions={})
    found.ledger = rows()
    old = msgspec.structs.replace(found, at="2020-01-01T00:00:00Z", text={"spread": visits(others_percent=90.0)})
    target = tmp_path / "service-1.json"
    write(found, target)
    assert msgspec.json.decode(target.read_bytes(), type=Service) == found
    assert target.with_suffix(".svg").read_text().startswith("<svg")
    assert len(steps(old)) == 4
    page = document.document(None, [found, old])
    assert page.count("2026-11-21T10:00:00Z") == page.count("2020-01-01T00:00:00Z") == 1
    assert page.count("was not quiet") == 1
    assert "real-time priority" not in page
    assert "real-time priority" in document.document(None, [msgspec.structs.replace(found, real_time=True)])
    document.write(None, [found], tmp_path)
    assert (tmp_path / "performance-ledger.svg").exists()


def test_no_times_are_none():
    assert times([]) == Times(-1.0, -1.0, -1)
    assert times([0.001, 0.002, 0.1]) == Times(2.0, 100.0, 100.0)


# -- for real -------------------------------------------------------------------------------------


def test_visitors_are_served_by_a_real_server(tmp_path):
    """Smoke: every wait holds at least the stages that cannot overlap, and none of a few turns is lost."""
    cores = (min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0)))
    with antiphon(tmp_path, cores[0], msgspec.structs.replace(WAYS[2].delays, char_ms=10)) as server:
        found = visit(server, cores, sessions=3, manner=ledger.FEW, seconds=20.0, turns=6, ramp_s=0.3, warm_s=0.0)
    assert (found.refused, found.failed, found.errors, found.lost_turns) == (0, 0, 0, 0)
    assert found.turns >= 6
    assert min(found.every_wait) >= 300, "nothing is spoken before the stages have taken their time"
    row = row_of(WAYS[2], found)
    assert {"stt", "understanding", "synthesis", "transport"} <= row.lines.keys()
    assert found.endpointing.p50 >= 119
    assert 0 < found.cpu_ms_per_session_s < 300


def test_a_crowd_comes_at_once_and_is_let_in(monkeypatch, capsys):
    cores = (min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0)))
    monkeypatch.setattr(text, "PERIOD_S", 1.5)
    monkeypatch.setattr(text, "REPLY", Delays(reply="Yes."))
    found = text.run(cores, 25, 2.5, [text.Coming("at once", 0.0)], warm_s=0.0)["at once"]
    assert (found.refused, found.failed, found.errors, found.lost_turns) == (0, 0, 0, 0)
    assert found.turns >= 25
    assert 0 < found.let_in.p50 <= found.let_in.most < 10_000
    assert "at once" in capsys.readouterr().out


def test_the_command_measures_what_it_was_asked_for(monkeypatch, tmp_path):
    from bench import __main__ as command

    asked = {}

    def measure(found, cores, **options):
        asked.update(options)
        found.text = {"spread": visits()}
        return 0

    monkeypatch.setattr(service, "measure", measure)
    target = tmp_path / "found.json"
    assert command.main(["--text", "--quick", "--json", str(target)]) == 0
    assert asked == {"with_ledger": False, "with_text": True, "turns": 40, "seconds": 12.0}
    assert msgspec.json.decode(target.read_bytes(), type=Service).text
