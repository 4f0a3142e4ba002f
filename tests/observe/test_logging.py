"""Logging: one place for both libraries, the call on each line, nothing secret, nobody waits."""

import io
import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from loguru import logger

from antiphon.config import load
from antiphon.errors import ConfigError
from antiphon.observe import log_writer
from antiphon.observe.log_writer import LineWriter
from antiphon.observe.logging import Redactor, configure, secrets_in
from antiphon.secret import Secret

KEY = "sk-very-secret-0123456789"
log = logging.getLogger("antiphon.test")

Lines = Callable[[], list[str]]


@pytest.fixture
def logged() -> Iterator[Callable[..., Lines]]:
    """``logged("json")`` configures; calling what it returns gives the lines so far."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    writers: list[LineWriter] = []

    def start(format: str = "json", level: str = "DEBUG", **more: object) -> Lines:
        stream = io.StringIO()
        writers.append(configure(level, format, stream=stream, **more))

        def lines() -> list[str]:
            writers[-1].close()
            return stream.getvalue().splitlines()

        return lines

    yield start
    for writer in writers:
        writer.close()
    logger.remove()
    logger.add(sys.stderr)
    logging.captureWarnings(False)
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_of_json_holds_the_fields_and_the_call(logged) -> None:
    lines = logged()
    log.info("turn %d begins", 3, extra={"call": "CA1", "turn": 3, "text": "x" * 200})
    log.warning("other", extra={"call": "CA2"})
    logger.bind(port=8004).info("loguru's {} too", "lines")
    first, second, third = (json.loads(line) for line in lines())
    assert first["message"] == "turn 3 begins"
    assert (first["call"], first["turn"], first["level"], first["logger"]) == ("CA1", 3, "INFO", "antiphon.test")
    assert len(first["text"]) == 50
    assert second["call"] == "CA2"
    assert (third["message"], third["port"]) == ("loguru's lines too", 8004)
    assert "call" not in third


def test_a_console_line_is_for_a_person_and_cannot_be_forged(logged) -> None:
    lines = logged("console")
    log.error("heard %s", "hi\n12:00:00 INFO forged\x1b[2J", extra={"call": "CA1", "stage": "llm"})
    first, second = lines()
    assert " ERROR   CA1 antiphon.test: heard hi" in first
    assert second.startswith("    12:00:00 INFO forged\\x1b[2J stage=llm")


def test_one_of_several_processes_says_which_it_is(logged) -> None:
    lines = logged(worker=2)
    log.info("begins", extra={"call": "CA1"})
    assert json.loads(lines()[0])["worker"] == 2
    lines = logged("console", worker=2)
    log.info("begins", extra={"call": "CA1"})
    assert " INFO    [2] CA1 antiphon.test: begins" in lines()[0]
    lines = logged()
    log.info("begins")
    assert "worker" not in json.loads(lines()[0])


def test_an_error_is_told_with_its_code_and_no_values_of_variables(logged) -> None:
    lines = logged(secrets=[Secret(KEY)])
    hidden_variable = "of-a-caller"
    try:
        raise ConfigError(f"no {KEY}", code="config.x")
    except ConfigError:
        log.exception("it broke")
    (line,) = lines()
    told = json.loads(line)["error"]
    assert (told["type"], told["code"]) == ("ConfigError", "config.x")
    assert "test_logging.py" in told["trace"]
    assert KEY not in line
    assert hidden_variable not in line


@pytest.mark.parametrize("format", ["json", "console"])
def test_no_secret_comes_through(logged, format: str) -> None:
    settings = load(
        "/dev/null", environ={"TWILIO_AUTH_TOKEN": 'a"secret\\token', "ANTIPHON_LLM_API_KEY": "plain-secret"}
    )
    lines = logged(format, secrets=secrets_in(settings))
    jwt = "eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl"
    log.info("headers %s", {"Authorization": "Bearer abcdef123456", "api-subscription-key": "sub-key-1"})
    log.info(
        f"{jwt} https://user:hunter2@host/ password=hunter3 {KEY}",
        extra={"dsn": "redis://u:hunter4@h", "n": {"a": jwt}},
    )
    log.info('twilio a"secret\\token llm plain-secret')
    text = "\n".join(lines())
    assert text.count("***") >= 9
    for secret in ("abcdef", "sub-key", "c2lnbm", "hunter", "very-secret", "plain-secret", "token llm", 'a\\"secret'):
        assert secret not in text
    assert "https://user:***@host/" in text


def test_ordinary_words_are_left_alone() -> None:
    text = "the token count is 512, max_tokens=512, secretary: Ms. Rao, sk-1"
    assert Redactor([Secret(""), Secret("is")])(text) == text


def test_levels(logged) -> None:
    lines = logged(level="WARNING")
    log.info("no")
    logging.getLogger("aiohttp.access").warning("yes")
    assert [json.loads(line)["message"] for line in lines()] == ["yes"]
    again = logged(level="INFO")
    logging.getLogger("uvicorn.access").info("no: each request is no news")
    log.info("once")
    assert len(again()) == 1


class _Stuck(io.StringIO):
    """A pipe that nobody reads, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.free = threading.Event()

    def write(self, text: str) -> int:
        self.free.wait(10)
        return super().write(text)


def test_a_reader_who_stops_reading_stops_nobody_and_lost_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_writer, "MAX_WAITING", 10)
    stream = _Stuck()
    writer = LineWriter(stream)
    for number in range(50):
        writer.write(f"line {number}")
    assert writer.dropped >= 50 - 2 * 10
    stream.free.set()
    writer.close()
    writer.close()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "line 0"
    assert len(lines) == 50 - writer.dropped + 1
    assert f"... {writer.dropped} log lines were dropped" in lines[-1]
    writer.write("late")
    assert "late" not in stream.getvalue()


def test_a_closed_stream_is_no_error() -> None:
    stream = io.StringIO()
    stream.close()
    writer = LineWriter(stream)
    writer.write("x")
    writer.close()
