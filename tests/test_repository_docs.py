"""What the documents say can be done can be done: commands parse, targets exist, links lead on, settings load."""

import argparse
import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from antiphon import config
from antiphon.cli import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "bench" / "README.md"])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MADE = re.compile(r"^([a-z-]+):", re.MULTILINE)


def said(kind: str) -> list[tuple[str, str]]:
    """Lines and inline code in the documents that begin with ``kind``, with where they stand."""
    found = []
    for path in DOCS:
        text = re.sub(r"```mermaid.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
        lines += re.findall(r"`([^`\n]+)`", text)
        found += [(path.name, line) for line in lines if re.match(rf"{kind}(\s|$)", line)]
    return found


def test_commands_parse() -> None:
    examined = 0
    for place, line in said("antiphon"):
        name, *arguments = shlex.split(line, comments=True)[1:] or ["--help"]
        if name in {"--help", "--version"}:
            continue
        if name not in dict(COMMANDS):
            pytest.fail(f"{place}: {line}: there is no such command")
        module = import_module(f"antiphon.cli.{name}")
        parser = argparse.ArgumentParser(exit_on_error=False)
        module.add_arguments(parser)
        needs = {"show": ["last"], "replay": ["last"], "chart": ["floor"]}
        try:
            parser.parse_args(arguments or needs.get(name, []))
        except (argparse.ArgumentError, SystemExit) as error:
            pytest.fail(f"{place}: {line}: {error}")
        examined += 1
    assert examined > 20


def test_make_targets_exist() -> None:
    targets = set(MADE.findall((ROOT / "Makefile").read_text(encoding="utf-8")))
    named = [(place, line.split()[1]) for place, line in said("make") if len(line.split()) > 1]
    assert len(named) > 10
    for place, target in named:
        assert target in targets, f"{place}: make {target}"


def test_every_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    for target in phony[1].split():
        if target != "FORCE":
            assert re.search(rf"^{target}:.*## \w", makefile, re.MULTILINE), target


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        if not link.startswith(("http://", "https://", "#")):
            assert (path.parent / link.partition("#")[0]).exists(), link


def test_files_that_are_named_exist() -> None:
    for path in DOCS:
        for name in re.findall(r"`((?:src|docs|scripts|tests|bench)/[\w./-]+)`", path.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{path.name}: {name}"


def test_settings_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examined = 0
    for path in DOCS:
        for block in re.findall(r"```toml\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            # Blocks inside a list are indented with it.
            text = "\n".join(line.strip() for line in block.splitlines())
            if "[project" in text:
                continue
            (tmp_path / "antiphon.toml").write_text(text, encoding="utf-8")
            assert config.load(environ={}).source == "antiphon.toml"
            examined += 1
    assert examined >= 3


def test_environment_variables_are_settings() -> None:
    known = {*config.ENVIRONMENT, *config.RESERVED}
    for path in DOCS:
        for name in re.findall(r"\bANTIPHON_[A-Z_]+\b", path.read_text(encoding="utf-8")):
            section, _, key = name.removeprefix("ANTIPHON_").lower().partition("_")
            fields = config.SECTIONS[section].__struct_fields__ if section in config.SECTIONS else ()
            assert name in known or key in fields or name == "ANTIPHON_", f"{path.name}: {name}"
