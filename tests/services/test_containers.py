"""The container and the compose file, as far as they can be judged without an engine: read, linted, run by hand."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pathspec
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from jsonschema import Draft202012Validator

from antiphon import config
from antiphon.config import ENVIRONMENT
from antiphon.providers.service_wire import PLACES

ROOT = Path(__file__).parents[2]
SERVICES = ROOT / "services"
DOCKERFILE = SERVICES / "orchestrator" / "Dockerfile"
START = SERVICES / "orchestrator" / "start.sh"
SECRET = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD)\s*[=:]\s*[\"']?[A-Za-z0-9]")


def instructions() -> list[tuple[str, str]]:
    parser = DockerfileParser(path=str(DOCKERFILE), cache_content=True)
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    starts = [at for at, (name, _) in enumerate(found) if name == "FROM"]
    return found[starts[-1] :]


def values(name: str, where: list[tuple[str, str]]) -> list[str]:
    return [value for each, value in where if each == name]


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((SERVICES / "docker-compose.yml").read_text(encoding="utf-8")))


# -- the Dockerfile --------------------------------------------------------------------------------


def test_its_base_is_pinned_and_no_secret_is_in_it() -> None:
    found = instructions()
    (argument,) = values("ARG", found)
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", argument), "a version, not a name that moves"
    assert set(values("FROM", found)) == {"python:${PYTHON} AS wheel", "python:${PYTHON}"}
    assert not values("ADD", found)
    for place in (DOCKERFILE, START, SERVICES / "docker-compose.yml"):
        assert not SECRET.search(place.read_text(encoding="utf-8")), place


def test_it_runs_as_nobody_in_particular_and_says_how_it_is() -> None:
    stage = last_stage()
    (user,) = values("USER", stage)
    assert user == "10001"
    assert any(f"--uid {user}" in value for value in values("RUN", stage))
    names = [name for name, _ in stage]
    assert names.index("USER") < names.index("CMD")
    assert "RUN" not in names[names.index("USER") :], "what is installed is root's"
    assert values("EXPOSE", stage) == ["8004"]
    assert len(values("HEALTHCHECK", stage)) == 1
    assert values("STOPSIGNAL", stage) == ["SIGTERM"], "which drains"


def test_what_it_copies_is_there_and_is_all_that_the_build_may_see() -> None:
    # Git's rules are stricter than Docker's, where "*" is one level deep: what git lets through, Docker does too.
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines())
    copied = [
        word
        for value in values("COPY", instructions())
        if "--from" not in value
        for word in value.split()[:-1]
        if not word.startswith("--")
    ]
    assert len(copied) > 8
    for name in copied:
        path = ROOT / name
        files = list(path.rglob("*.py")) if path.is_dir() else [path]
        assert files
        for each in files:
            assert each.is_file(), name
            assert not ignored.match_file(each.relative_to(ROOT).as_posix()), name
    for hidden in (".git/config", ".env", "src/.env", "services/.env", "tests/conftest.py", "antiphon.toml", ".venv/x"):
        assert ignored.match_file(hidden), hidden
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:].removesuffix("/**") for line in lines if line.startswith("!")} == set(copied)


def test_the_shell_reads_its_commands() -> None:
    for command in values("RUN", instructions()):
        subprocess.run(["sh", "-n", "-c", command], check=True)
    subprocess.run(["sh", "-n", str(START)], check=True)
    assert os.access(START, os.X_OK)


# -- the compose file ------------------------------------------------------------------------------

STRING_MAP = {"type": "object", "additionalProperties": {"type": "string"}}
SERVICE = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9./-]+:[A-Za-z0-9._-]+$"},
        "build": {
            "type": "object",
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
            "additionalProperties": False,
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "networks": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "cap_drop": {"type": "array", "items": {"type": "string"}},
        "security_opt": {"type": "array", "items": {"type": "string"}},
        "stop_grace_period": {"type": "string", "pattern": r"^\d+s$"},
        "command": {"type": "array", "items": {"type": "string"}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[a-z]+:/[a-z]+$"}},
        "environment": STRING_MAP,
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
                "required": ["condition"],
            },
        },
        "healthcheck": {
            "type": "object",
            "properties": {
                "test": {"type": "array", "items": {"type": "string"}, "prefixItems": [{"const": "CMD"}]},
                "interval": {"type": "string", "pattern": r"^\d+s$"},
                "timeout": {"type": "string", "pattern": r"^\d+s$"},
                "start_period": {"type": "string", "pattern": r"^\d+s$"},
                "retries": {"type": "integer"},
            },
            "required": ["test"],
            "additionalProperties": False,
        },
    },
    "required": ["image", "restart", "networks"],
    "additionalProperties": False,
}
COMPOSE = {
    "type": "object",
    "properties": {
        "services": {"type": "object", "additionalProperties": SERVICE},
        "networks": {"type": "object", "additionalProperties": {"type": "object"}},
        "volumes": {"type": "object"},
    },
    "patternProperties": {"^x-": {}},
    "required": ["services"],
    "additionalProperties": False,
}
"""What this file uses of the Compose specification (github.com/compose-spec, schema/compose-spec.json), and no more."""


def test_it_is_a_compose_file() -> None:
    Draft202012Validator(COMPOSE).validate(compose())
    whole = compose()
    for name, service in whole["services"].items():
        assert set(service["networks"]) <= set(whole["networks"]), name
        assert set(service.get("depends_on", ())) <= set(whole["services"]), name
        for each in service.get("depends_on", ()):
            assert "healthcheck" in whole["services"][each], each
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in whole["volumes"]
        if "build" in service:
            context = (SERVICES / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).resolve() == DOCKERFILE


def test_its_addresses_are_the_rows_own_and_lead_to_its_services() -> None:
    """Contract rows B1, B4, B16 to B20."""
    services = compose()["services"]
    told = services["orchestrator"]["environment"]
    assert services["orchestrator"]["image"] == "leibniz-orchestrator:latest"
    assert told["REDIS_URL"] == "redis://redis:6379/0"
    for place in PLACES.values():
        assert told[place.variable] == f"http://{place.title}:{place.port}"
        service = services[place.title]
        assert f"127.0.0.1:{place.port}/health" in service["healthcheck"]["test"][-1]
        assert service["image"] == services["orchestrator"]["image"]
    assert set(services) == {"orchestrator", "redis", *(place.title for place in PLACES.values())}


def test_nothing_is_open_by_accident() -> None:
    whole = compose()
    published = {name: service["ports"] for name, service in whole["services"].items() if "ports" in service}
    assert published == {"orchestrator": ["127.0.0.1:8004:8004"]}
    assert whole["networks"]["inside"] == {"internal": True}
    for name, service in whole["services"].items():
        if name != "orchestrator":
            assert service["networks"] == ["inside"], name


def filled(environment: dict[str, str]) -> dict[str, str]:
    """With nothing set outside, as Compose fills ``${NAME:-default}``."""
    return {name: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for name, value in environment.items()}


def test_its_variables_are_settings_that_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    services = compose()["services"]
    for name, service in services.items():
        if name == "redis":
            continue
        settings = config.load(environ=filled(service["environment"]))
        assert settings.warnings == (), name
        assert settings.server.allow_open
    told = filled(services["orchestrator"]["environment"])
    settings = config.load(environ=told)
    stages = (settings.stt, settings.intent, settings.retrieval, settings.tts)
    assert [stage.provider for stage in stages] == ["http"] * 4
    assert settings.journal.place == "redis://redis:6379/0"
    assert [each.provider for each in settings.tts.chain()] == ["http", "espeak"]
    assert {"MAX_CONCURRENT_SESSIONS", "SESSION_TTL_SECONDS", "LOG_LEVEL"} <= set(told) & set(ENVIRONMENT)


@pytest.mark.parametrize("name", ["stt-vad-service", "intent-service", "rag-service", "tts-service"])
def test_its_commands_are_ours_and_parse(name: str) -> None:
    program, *words = compose()["services"][name]["command"]
    assert program == "antiphon"
    import argparse
    from importlib import import_module

    parser = argparse.ArgumentParser()
    command = import_module(f"antiphon.cli.{words[0]}")
    command.add_arguments(parser)
    chosen = parser.parse_args(words[1:])
    assert next(place.title for place in PLACES.values() if place.part == chosen.part) == name
    assert chosen.host == "0.0.0.0"  # noqa: S104


# -- run by hand -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment made by the container's own steps, but for what comes from an index: dependencies are ours."""
    folder = tmp_path_factory.mktemp("image")
    run = values("RUN", instructions())
    (build,) = [each for each in run if "pip wheel" in each]
    assert build.startswith("python -m pip wheel ")
    dist = folder / "dist"
    made = build.replace("/dist", str(dist)).replace("python", sys.executable, 1) + " --no-build-isolation"
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(["sh", "-c", made], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    (packages,) = (venv / "lib").glob("python*/site-packages")
    ours = next(each for each in sys.path if each.endswith("site-packages"))
    (packages / "ours.pth").write_text(ours + "\n", encoding="utf-8")
    (install,) = [each for each in run if "[local" in each]
    words = re.sub(r"\[local[^\]]*\]", "", install).replace("/build/dist", str(dist))
    words = words.replace("-c /build/requirements.lock", "--no-deps").replace("python", str(venv / "bin" / "python"), 1)
    done = subprocess.run(["sh", "-c", words], cwd=folder, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return venv / "bin"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def container(image: Path, tmp_path: Path) -> Iterator[tuple[dict[str, str], list[subprocess.Popen[str]]]]:
    """What the container's command sees; started processes are ended."""
    environ = {
        "PATH": f"{image}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "ANTIPHON_SERVER_PORT": str(free_port()),
        **{f"ANTIPHON_{stage}_PROVIDER": "fake" for stage in ("STT", "LLM", "TTS", "INTENT", "RETRIEVAL")},
    }
    started: list[subprocess.Popen[str]] = []
    yield environ, started
    for each in started:
        each.kill()
        each.wait(10)


def begin(words: list[str], environ: dict[str, str], folder: Path, started: list[subprocess.Popen[str]]) -> str:
    """Starts it and returns what it says until it listens."""
    process = subprocess.Popen(
        words, env=environ, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    started.append(process)
    assert process.stdout is not None
    said = ""
    while "listens on" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def health_of(environ: dict[str, str]) -> int:
    """The status of the container's own HEALTHCHECK."""
    (check,) = values("HEALTHCHECK", last_stage())
    words = json.loads(check.partition(" CMD ")[2])
    return subprocess.run(words, env=environ, capture_output=True, timeout=20, check=False).returncode


@pytest.mark.exclusive
def test_the_container_serves_answers_its_check_and_drains(
    container: tuple[dict[str, str], list[subprocess.Popen[str]]], tmp_path: Path
) -> None:
    environ, started = container
    assert health_of(environ) != 0, "nobody there is not healthy"
    (command,) = values("CMD", last_stage())
    assert json.loads(command) == ["antiphon-start"]
    said = begin([str(START)], environ, tmp_path, started)
    key = re.search(r"no API key was given; that of this run is (\S+)", said)
    assert key, said
    assert health_of(environ) == 0
    url = f"http://127.0.0.1:{environ['ANTIPHON_SERVER_PORT']}/sessions"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=5)
    assert caught.value.code == 401, "without the key nothing is open"
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {key[1]}"})
    with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310
        assert answer.status == 200
    began = time.monotonic()
    started[0].terminate()
    assert started[0].wait(15) == 0
    assert time.monotonic() - began < 10, "the shell has given its place to the server, which takes the signal"


@pytest.mark.exclusive
def test_a_key_that_is_given_is_kept_and_a_service_runs_from_the_same_image(
    container: tuple[dict[str, str], list[subprocess.Popen[str]]], tmp_path: Path, image: Path
) -> None:
    environ, started = container
    environ["ANTIPHON_SERVER_ALLOW_OPEN"] = "true"
    said = begin([str(START)], environ, tmp_path, started)
    assert "API key" not in said
    words = compose()["services"]["intent-service"]["command"]
    environ = {**environ, **filled(compose()["services"]["intent-service"]["environment"])}
    port = free_port()
    said = begin([str(image / words[0]), *words[1:], "--port", str(port)], environ, tmp_path, started)
    assert said.endswith(f"intent-service (fake) listens on http://0.0.0.0:{port}/\n")
    check = compose()["services"]["intent-service"]["healthcheck"]["test"][1:]
    check = [word.replace(":8002/", f":{port}/") for word in check]
    assert subprocess.run(check, env=environ, capture_output=True, timeout=20, check=False).returncode == 0
    where = [str(image / "python"), "-c", "import antiphon; print(antiphon.__file__)"]
    found = subprocess.run(where, env=environ, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert Path(found.strip()).is_relative_to(image.parent), "it is the wheel that runs"
