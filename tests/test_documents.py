"""The documents say what is so: indexed, linked, and every command, setting, program and line of the log in them real.

``test_repository_docs.py`` has what holds for commands, targets and settings in running text.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import inspect
import json
import logging
import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from textwrap import indent
from typing import Any, get_args

import pytest

import antiphon
from antiphon import config
from antiphon.cli import COMMANDS
from antiphon.errors import ConfigError, MissingExtra
from antiphon.facade.metrics import MetricsCollector
from antiphon.media.codec import wav_write
from antiphon.providers.registry import BUILT_IN, Kind, load
from antiphon.runtime import batch
from antiphon.server import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MANUAL = DOCS / "AGENT_ORCHESTRATOR_COMPLETE_IMPLEMENTATION.md"
TROUBLE = DOCS / "TROUBLESHOOTING.md"
ALL = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.glob("*.md")),
    *sorted((ROOT / "services" / "docs").glob("*.md")),
    ROOT / "bench" / "README.md",
    ROOT / "src" / "orchestrator" / "README.md",
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fences(path: Path, *kinds: str) -> list[str]:
    """What stands between fences of these kinds, without the indentation of a list it may stand in."""
    found = FENCE.findall(path.read_text(encoding="utf-8"))
    return [inspect.cleandoc("\n" + text) for _, kind, text in found if kind in kinds]


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text(encoding="utf-8"))


# -- index and links -------------------------------------------------------------------------------


def test_every_document_is_in_the_index_once() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    listed = [(DOCS / link).resolve() for link in re.findall(r"^- \[[^\]]*\]\(([^)]+)\): \S", index, re.MULTILINE)]
    assert sorted(listed) == sorted(path for path in ALL if path != DOCS / "README.md")
    assert "(docs/README.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def slugs(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ +(.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_links_lead_to_a_place_that_is_there(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in slugs(target), link


# -- commands --------------------------------------------------------------------------------------


def commands(path: Path) -> list[str]:
    """Lines of code that are calls of ours."""
    text = "\n".join(fences(path, "", "sh", "bash", "console", "ini"))
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    lines += [line.strip() for line in prose(path).splitlines() if line.startswith("    ")]
    lines += re.findall(r"`([^`\n]+)`", prose(path))
    found = (re.sub(r"^(ExecStart=)?(/\S+/)?antiphon(?=\s|$)", "antiphon", line) for line in lines)
    return [line for line in found if re.match(r"antiphon\s+[a-z]", line)]


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_every_command_parses(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs = {"show": ["last"], "replay": ["last"], "chart": ["floor"], "service": ["rag"]}
    for line in commands(path):
        name, *arguments = shlex.split(line, comments=True)[1:]
        assert name in dict(COMMANDS), line
        parser = argparse.ArgumentParser()
        import_module(f"antiphon.cli.{name}").add_arguments(parser)
        try:
            parser.parse_args(arguments or needs.get(name, []))
        except SystemExit:
            pytest.fail(f"{line}: {capsys.readouterr().err}")


def test_there_are_commands_to_examine() -> None:
    assert len(commands(ROOT / "README.md")) > 8
    assert len(commands(DOCS / "operating.md")) > 8


@pytest.mark.parametrize("path", ALL, ids=name_of)
def test_every_program_that_is_called_takes_its_arguments(path: Path) -> None:
    """``python examples/...``, ``python -m bench`` and ``python scripts/...``."""
    for place, rest in re.findall(r"python ((?:examples/|scripts/)?\w+\.py)((?: --?[\w-]+)*)", path.read_text("utf-8")):
        program = next((each for each in (ROOT / place, ROOT / "examples" / place) if each.exists()), None)
        assert program, place
        for option in re.findall(r"--[\w-]+", rest):
            assert f'"{option}"' in program.read_text(encoding="utf-8"), f"{place} {option}"


# -- settings --------------------------------------------------------------------------------------


def tables(path: Path) -> list[str]:
    return [text for text in fences(path, "toml") if "[project" not in text]


def wrong_with(kind: Kind, provider: config.Provider) -> str:
    """A code; "" for nothing. That a file or a package of an example is not here is not the settings' fault."""
    try:
        load(kind, provider.provider, provider.settings)
    except (ConfigError, MissingExtra) as error:
        return error.code
    return ""


def test_a_setting_that_a_provider_does_not_know_is_noticed() -> None:
    assert wrong_with("tts", config.Provider(provider="espeak", settings={"no_such": 1})) == "config.unknown_key"


@pytest.mark.parametrize("path", [path for path in ALL if tables(path)], ids=name_of)
def test_every_setting_is_known_to_its_reader(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sections by ``config.load``; a provider's own keys by the provider itself."""
    monkeypatch.chdir(tmp_path)
    for variable in ("OPENAI_API_KEY", "GROQ_API_KEY", "GEMINI_API_KEY", "SARVAM_API_KEY", "ELEVENLABS_API_KEY"):
        monkeypatch.setenv(variable, "a-key-that-nobody-has")
    for text in tables(path):
        (tmp_path / "antiphon.toml").write_text(text, encoding="utf-8")
        settings = config.load(environ={})
        assert settings.source == "antiphon.toml"
        for kind in get_args(Kind):
            for each in getattr(settings, kind).chain():
                assert wrong_with(kind, each) not in {"config.unknown_key", "config.bad_value"}, text


def test_the_table_of_providers_names_all_of_them_and_no_others() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Providers and languages")[2]
    section = section.partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `\[(\w+)\]`[^|]*\| (.*) \|$", section, re.MULTILINE))
    everywhere = {"livekit", "http", "fake"}
    for kind in ("stt", "llm", "tts"):
        assert set(re.findall(r"`(\w+)`", rows[kind])) == set(BUILT_IN[kind]) - everywhere
    rest = {*BUILT_IN["intent"], *BUILT_IN["retrieval"]} - {"fake", "http", "none"}
    assert set(re.findall(r"`(\w+)`", rows["intent"])) == rest


# -- programs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in ALL if fences(path, "python")], ids=name_of)
def test_python_compiles(path: Path) -> None:
    for text in fences(path, "python"):
        # A part of a function's body is shown without its head.
        whole = f"async def shown():\n{indent(text, '    ')}" if re.search(r"^ +return$", text, re.MULTILINE) else text
        compile(whole, name_of(path), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


class Stub:
    async def speech_to_text(self, audio_bytes: bytes, language: str | None = None) -> tuple[str, str | None]:
        return "what are the fees", None

    async def chat(self, messages: list[dict[str, str]]) -> str:
        return "Ninety thousand rupees."

    async def text_to_speech(self, text: str, language: str) -> bytes:
        return wav_write(b"\0\0" * 800, 8000)


def run(text: str, **names: Any) -> dict[str, Any]:
    """Runs a block, whose names are then there."""
    code = compile(text, "document", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    made = eval(code, names)  # noqa: S307 - our own documents
    if made is not None:
        asyncio.run(made)
    return names


def test_the_first_page_s_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(antiphon, "SarvamAI", Stub)
    (text,) = [text for text in fences(ROOT / "README.md", "python") if "process_turn" in text]
    result = run(text, wav=wav_write(b"\0\0" * 8000, 8000))["result"]
    assert (result["text"], result["language"], result["error"]) == ("what are the fees", "te-IN", None)
    said = re.search(r"process_turn\(wav\)  # (.*)", text)
    assert said
    assert said[1].split(", ") == list(result)


def test_the_quick_start_s_code_is_that_of_the_servers_that_are_tested() -> None:
    guide = ROOT / "tests" / "facade" / "guide"
    servers = {name: (guide / f"{name}.py").read_text(encoding="utf-8") for name in ("before", "after")}
    shown = [text for _, kind, text in FENCE.findall((DOCS / "quickstart.md").read_text("utf-8")) if kind == "python"]
    *steps, _see_it = shown
    assert len(steps) == 6
    for step in steps:
        where = "before" if "await sarvam" in step else "after"
        assert step in servers[where], step


def test_what_the_quick_start_prints_is_what_is_printed() -> None:
    *_, text = fences(DOCS / "quickstart.md", "python")
    metrics = MetricsCollector()
    for stt, llm, tts in ((0.469, 0.001, 0.05), (0.484, 0.002, 0.061), (0.302, 0.001, 0.047)):
        metrics.record_turn(stt, llm, tts, "en-IN")
    (shown,) = [each for each in fences(DOCS / "quickstart.md", "text") if each.startswith("language")]
    assert "metrics.generate_report()" in text
    assert re.sub(r"\d+", "0", metrics.generate_report()) == re.sub(r"\d+", "0", shown).replace("000", "0")


def test_the_operating_guide_s_log_names_the_call(capsys: pytest.CaptureFixture[str]) -> None:
    (text,) = fences(DOCS / "operating.md", "python")
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    try:
        run(text)
        logging.getLogger("antiphon.x").info("hello", extra={"call": "CA1"})
        logging.getLogger("of.others").info("hello")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith("INFO CA1 antiphon.x: hello")
    assert second.endswith("INFO - of.others: hello")


# -- the log ---------------------------------------------------------------------------------------

LEVELS = {"exception": "ERROR", "log": "(?:INFO|WARNING)"}


def logged() -> list[str]:
    """A pattern for every line that the library can log: level, logger, message."""
    patterns = []
    for path in (ROOT / "src" / "antiphon").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named = re.search(r'getLogger\("([\w.]+)"\)', text)
        logger = named[1] if named else name_of(path)[len("src/") : -len(".py")].replace("/", ".")
        for node in ast.walk(ast.parse(text)):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name)
                and node.func.value.id in {"log", "_log"}
            ):
                level = LEVELS.get(node.func.attr, node.func.attr.upper())
                for message in messages(node, text):
                    patterns.append(f"{level} {re.escape(logger)}: {message}")
    return patterns


def messages(node: ast.Call, source: str) -> list[str]:
    """The message of a call, as a pattern; one kept in a variable is any text of the file that has a place in it."""
    given = node.args[1 if isinstance(node.func, ast.Attribute) and node.func.attr == "log" else 0]
    texts = [given.value] if isinstance(given, ast.Constant) else re.findall(r'"([^"\n]*%[^"\n]*)"', source)
    return [re.sub(r"%(?:\\?\.\d+)?[sdgrf]", ".+", re.escape(str(text)).replace("%%", "%")) for text in texts]


def test_every_line_of_the_log_that_is_shown_can_be_logged() -> None:
    patterns = [re.compile(pattern) for pattern in logged()]
    assert len(patterns) > 80
    lines = [line for text in fences(TROUBLE, "log") for line in text.splitlines()]
    assert len(lines) > 25
    for line in lines:
        assert any(pattern.fullmatch(line) for pattern in patterns), line


def test_a_line_that_nobody_logs_is_noticed() -> None:
    patterns = [re.compile(pattern) for pattern in logged()]
    for line in (
        "ERROR antiphon.orchestrator: TTS failed, but returning text response",
        "WARNING antiphon.batch: TTS failed, but returning text response",
        "WARNING antiphon.orchestrator: TTS failed and nothing comes back",
    ):
        assert not any(pattern.fullmatch(line) for pattern in patterns), line


def test_json_lines_have_the_fields_that_lines_have() -> None:
    (text,) = fences(DOCS / "operating.md", "json")
    assert list(json.loads(text)) == ["time", "level", "logger", "message", "call"]


# -- what is said of errors, health and procedures -------------------------------------------------


def test_every_symptom_has_its_place() -> None:
    """A82's entries; each shows a line of the log."""
    text = TROUBLE.read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    for entry in (
        "No audio",
        "Speech to text comes back empty",
        "The language does not fit",
        "Timeouts",
        "The orchestrator does not process",
        "A circuit breaker is open",
        "Empty responses",
    ):
        assert "```log" in parts[entry], entry
        assert "- " in parts[entry], entry


@pytest.mark.parametrize(
    "path", [TROUBLE, MANUAL, *(DOCS / f"{name}.md" for name in ("operating", "quickstart", "security"))], ids=name_of
)
def test_codes_are_those_of_the_code(path: Path) -> None:
    source = "\n".join(each.read_text(encoding="utf-8") for each in (ROOT / "src" / "antiphon").rglob("*.py"))
    stages = {"stt", "llm", "tts"}
    codes = set(re.findall(r"[`\[]([a-z]+\.[a-z_]+)[`\]]", prose(path))) - {"antiphon.toml"}
    examined = 0
    for code in codes:
        head, _, reason = code.partition(".")
        if head in {*stages, "auth", "breaker", "line", "store", "audio", "media", "config", "server", "language"}:
            if hasattr(config.Settings(), head) and hasattr(getattr(config.Settings(), head), reason):
                continue
            composed = head in stages and re.search(rf'"{reason}"|\.{reason}\b', source)
            assert f'"{code}"' in source or composed, code
            examined += 1
    assert examined or path.name == "quickstart.md"


def test_the_codes_of_a_turn_are_all_told() -> None:
    """Those that a stage makes itself (``Stage.run`` lists them), and those of the orchestrator."""
    text = MANUAL.read_text(encoding="utf-8").partition("## Codes in `error`")[2].partition("\n## ")[0]
    made = re.findall(r"``(?:<stage>)?\.(\w+)``", inspect.getdoc(batch.Stage.run) or "")
    assert len(made) >= 6
    for reason in made:
        assert f"`stt.{reason}`" in text, reason
        assert f"`llm.{reason}`" in text or reason == "blank", reason
    orchestrator = (ROOT / "src" / "antiphon" / "facade" / "agent_orchestrator.py").read_text(encoding="utf-8")
    for code in re.findall(r'code="([\w.]+)"', orchestrator):
        # What is wrong with its arguments is raised when it is constructed, and no turn ends so.
        assert code.startswith("config.") or f"`{code}`" in text, code


def test_every_field_of_health_is_told() -> None:
    told = (DOCS / "operating.md").read_text(encoding="utf-8").partition("## Health")[2].partition("\n## ")[0]
    source = inspect.getsource(app._vital_signs)
    fields = set(re.findall(r'^ {12}"(\w+)":', source, re.MULTILINE)) | set(re.findall(r'answer\["(\w+)"\]', source))
    assert len(fields) >= 9
    for field in fields | {"journal", "voice_activity", "event_loop", "twilio", "stt", "llm", "tts"}:
        assert f"`{field}`" in told, field


# -- what is written by a program ------------------------------------------------------------------


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module(name)


def test_the_reference_is_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    written = script("written", monkeypatch).written()[name_of(MANUAL)]
    assert written == MANUAL.read_text(encoding="utf-8"), "run `make docs`"


def test_the_reference_leaves_nothing_unexplained(monkeypatch: pytest.MonkeyPatch) -> None:
    api = script("reference", monkeypatch).sections()["api"]
    for name in (
        "AgentOrchestrator",
        "TaskRouter",
        "ContextManager",
        "LanguageCoordinator",
        "MetricsCollector",
        "TurnMetrics",
        "CircuitBreaker",
        "CircuitBreakerOpen",
        "SarvamAI",
    ):
        assert f"### `{name}`" in api
    empty = [line for line in api.splitlines() if re.search(r"\|\s*\|$", line)]
    assert not empty, empty
    assert not re.search(r"\([A-DX]\d+", api), "rows of requirements say nothing to its readers"


def test_a_region_is_replaced_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    filled = script("regions", monkeypatch).filled
    text = "before\n<!-- a: by hand -->\n\nold\n\n<!-- /a -->\nafter\n"
    assert filled(text, {"a": r"new \1"}) == text.replace("old", r"new \1")
    assert filled(filled(text, {"a": "x"}), {"a": "old"}) == text
    with pytest.raises(ValueError, match="0 regions named 'b'"):
        filled(text, {"b": "new"})


def test_figures_name_their_commands_and_their_date() -> None:
    figures = MANUAL.read_text(encoding="utf-8").partition("<!-- figures")[2].partition("<!-- /figures")[0]
    assert re.search(r"Measured \d{4}-\d\d-\d\d on \d+ cores of ", figures)
    for command in ("make run ARGS=--once", "python -m bench --stages", "orchestrator_integration_example.py"):
        assert command in figures
    assert "| total | 3000 |" in figures, "the baseline"


# -- drawings --------------------------------------------------------------------------------------

KINDS = ("flowchart ", "sequenceDiagram", "stateDiagram-v2")
RESERVED = r"(?:call|click|end|graph|href|style|subgraph)"


@pytest.mark.parametrize("path", [path for path in ALL if fences(path, "mermaid")], ids=name_of)
def test_drawings_keep_to_what_mermaid_can_read(path: Path) -> None:
    for text in fences(path, "mermaid"):
        first, *lines = (line.strip() for line in text.splitlines())
        assert first.startswith(KINDS), first
        opened = [line for line in lines if re.match(r"(subgraph|opt|alt|loop|par)\b", line)]
        assert len(opened) == lines.count("end"), text
        for line in lines:
            assert not problem(first, line), line


def problem(kind: str, line: str) -> bool:
    """What Mermaid's grammar stumbles over, as far as it has happened to people."""
    if kind.startswith("flowchart"):
        bare = re.sub(r'"[^"]*"', '""', line)
        labels = re.findall(r"\w[\[{(]{1,2}(?![\[{(\"])([^\]})]*)", bare)
        return bool(re.match(rf"{RESERVED}\s+-", line)) or any(re.search(r"[\[{(;]", label) for label in labels)
    if kind == "sequenceDiagram":
        return ";" in line
    return "-->" in line and line.count(":") > 1


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("flowchart TD", "call --> chain"),
        ("flowchart TD", "a[what (it) is] --> b"),
        ("flowchart TD", "a --> b{f(x)}"),
        ("sequenceDiagram", "A->>B: one; two"),
        ("stateDiagram-v2", "a --> b: one: two"),
    ],
)
def test_a_drawing_that_mermaid_cannot_read_is_noticed(kind: str, line: str) -> None:
    assert problem(kind, line)
