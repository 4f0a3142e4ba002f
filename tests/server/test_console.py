"""The page's files over HTTP: what is there, what it is called, what browsers are told about it."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from antiphon.server import console

HERE = Path(console.__file__).parents[1] / "data" / "console"


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = FastAPI()
    app.include_router(console.router())
    return TestClient(app)


def test_the_index_is_asked_for_each_time(client: TestClient) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == (HERE / "index.html").read_bytes()
    assert client.head("/").status_code == 200


@pytest.mark.parametrize("path", sorted(HERE.iterdir()), ids=lambda path: path.name)
def test_each_file_is_served_as_what_it_is(client: TestClient, path: Path) -> None:
    if path.name == "index.html":
        return
    answer = client.get(f"/console/{path.name}")
    assert answer.status_code == 200
    assert answer.content == path.read_bytes()
    types = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
    assert answer.headers["content-type"] == types[path.suffix]
    assert answer.headers["cache-control"] == "no-cache"


def test_what_a_browser_has_is_not_sent_again(client: TestClient) -> None:
    tag = client.get("/console/main.js").headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = client.get("/console/main.js", headers={"if-none-match": known})
        assert again.status_code == 304
        assert again.content == b""
        assert again.headers["etag"] == tag
    assert client.get("/console/main.js", headers={"if-none-match": '"other"'}).status_code == 200
    assert client.get("/", headers={"if-none-match": "*"}).status_code == 200
    assert client.get("/console/talk.js").headers["etag"] != tag


def test_every_answer_forbids_what_the_page_does_not_do(client: TestClient) -> None:
    for path in ("/", "/console/main.js", "/console/icon.svg"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["require-trusted-types-for"] == "'script'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "microphone=(self)" in headers["permissions-policy"]


@pytest.mark.parametrize("name", ["", "index.html", "../errors.py", "..%2ferrors.py", "%2e%2e/errors.py", "nothing.js"])
def test_nothing_else_is_served(client: TestClient, name: str) -> None:
    assert client.get(f"/console/{name}").status_code == 404


@given(
    name=st.text(st.characters(codec="utf-8"), max_size=40)
    | st.lists(st.sampled_from("./%2eE\\"), max_size=20).map("".join)
)
def test_no_name_leads_anywhere_else(client: TestClient, name: str) -> None:
    for path in (quote(name, safe=""), quote(name)):
        answer = client.get(f"/console/{path}", follow_redirects=False)
        assert answer.status_code in (200, 307, 404, 405)
        assert answer.status_code != 200 or answer.content in {asset.body for asset in console.assets().values()}


# -- the files themselves -------------------------------------------------------------------------


def test_all_that_the_files_name_is_there() -> None:
    """Modules that import each other, worklets, styles: a file that is not there leaves the page dead."""
    for path in HERE.iterdir():
        text = path.read_text(encoding="utf-8")
        named = re.findall(r'(?:from|import) "\./([\w.]+)"', text) + re.findall(r'new URL\("\./([\w.]+)"', text)
        named += re.findall(r'(?:href|src)="console/([\w.]+)"', text)
        for name in named:
            assert (HERE / name).is_file(), f"{path.name} names {name}"


def test_every_id_that_a_module_asks_for_is_in_the_page() -> None:
    page = (HERE / "index.html").read_text(encoding="utf-8")
    there = re.findall(r' id="([\w-]+)"', page)
    assert len(there) == len(set(there))
    asked = {id for path in HERE.glob("*.js") for id in re.findall(r'byId\("([\w-]+)"\)', path.read_text("utf-8"))}
    assert len(asked) > 20
    assert asked <= set(there)


def test_nothing_in_the_files_goes_round_the_policy() -> None:
    """No string becomes HTML, no style or script is inline, nothing comes from another place."""
    for path in HERE.iterdir():
        text = path.read_text(encoding="utf-8")
        found = re.search(r"\.(inner|outer)HTML|insertAdjacentHTML|document\.write|eval\(| style=|\bon\w+=\"", text)
        assert found is None, f"{path.name}: {found and found[0]}"
        for address in re.findall(r"https?://[^\s\"'<>]+", text):
            assert address == "http://www.w3.org/2000/svg", f"{path.name}: {address}"


def test_the_files_are_small_rooms_too() -> None:
    for path in HERE.iterdir():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) < 400, path.name
        assert all(len(line) <= 120 for line in lines if path.suffix == ".js"), path.name
