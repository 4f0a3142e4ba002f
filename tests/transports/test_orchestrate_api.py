"""The AsyncAPI document of /orchestrate says what the code takes and tells: no more, no less."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import msgspec
import orchestrate_api
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from picows import WSCloseCode

from antiphon.errors import FrameTooLarge
from antiphon.runtime import call, host
from antiphon.server import fragments, run, sockets
from antiphon.transports import line_guard, line_socket, orchestrate, orchestrate_messages, orchestrate_settings
from antiphon.transports import orchestrate_messages as wire

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / orchestrate_api.PLACE).read_text(encoding="utf-8"))
SCHEMAS = DOCUMENT["components"]["schemas"]
MESSAGES = DOCUMENT["components"]["messages"]
IN, OUT = get_args(wire.Inbound), get_args(wire.Outbound)


def validator(shape: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{shape}", "components": {"schemas": SCHEMAS}})


def test_the_file_is_what_the_code_says() -> None:
    assert (ROOT / orchestrate_api.PLACE).read_text(encoding="utf-8") == orchestrate_api.document(), "run make docs"


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere_and_every_schema_is_one() -> None:
    for reference in set(references(DOCUMENT)):
        node: Any = DOCUMENT
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)
    used = {reference.rpartition("/")[2] for reference in references(DOCUMENT) if "/schemas/" in reference}
    assert used == set(SCHEMAS)


def test_every_message_is_in_it_once_and_in_its_direction() -> None:
    def names(operation: str) -> list[str]:
        refs = [each["$ref"] for each in DOCUMENT["operations"][operation]["messages"]]
        keys = [ref.rpartition("/")[2] for ref in refs]
        return [MESSAGES[key].get("name", key) for key in keys]

    tags_in = [str(shape.__struct_config__.tag) for shape in IN]
    assert tags_in == list(wire.KNOWN)
    assert names("take") == [*tags_in, "caller_audio"]
    assert names("tell") == [*(str(shape.__struct_config__.tag) for shape in OUT), "agent_audio"]


@pytest.mark.parametrize("shape", [*IN, *OUT], ids=lambda shape: shape.__name__)
def test_exactly_these_fields(shape: type[msgspec.Struct]) -> None:
    schema = SCHEMAS[shape.__name__]
    assert set(schema["properties"]) == {"type", *shape.__struct_encode_fields__}


@pytest.mark.parametrize("key", [key for key in MESSAGES if "payload" in MESSAGES[key]])
def test_examples_are_valid_and_decode_to_the_same(key: str) -> None:
    shape = MESSAGES[key]["payload"]["$ref"].rpartition("/")[2]
    kind = getattr(wire, shape)
    for example in MESSAGES[key]["examples"]:
        payload = example["payload"]
        validator(shape).validate(payload)
        again = msgspec.to_builtins(msgspec.json.decode(msgspec.json.encode(payload), type=kind))
        assert {name: again[name] for name in payload} == payload


@given(st.data())
def test_what_the_decoder_takes_the_document_allows_and_the_other_way_round(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(IN))
    values = st.one_of(
        st.text(max_size=5), st.booleans(), st.integers(-5, 5), st.none(), st.sampled_from(["1", "#", "en-IN"])
    )
    fields = st.dictionaries(st.sampled_from(shape.__struct_encode_fields__), values)
    message = {**data.draw(fields), "type": shape.__struct_config__.tag}
    allowed = validator(shape.__name__).is_valid(message)
    try:
        wire.decode(msgspec.json.encode(message))
    except msgspec.ValidationError:
        assert not allowed, message
    else:
        assert allowed, message


def test_every_code_is_in_it() -> None:
    source = inspect.getsource(orchestrate) + inspect.getsource(orchestrate_messages.why_unusable)
    said = set(re.findall(r'"((?:frame|message|session|orchestrate)\.[a-z_0-9]+)"', source))
    assert said == {code for code in wire.ERRORS if not code.startswith("opus.")}
    assert DOCUMENT["x-errors"] == wire.ERRORS
    closes = [(each["code"], each["reason"], each["means"]) for each in DOCUMENT["x-closes"]]
    assert closes == list(wire.CLOSES)


def test_the_page_for_people_names_every_message_code_and_close() -> None:
    page = (ROOT / "docs" / "orchestrate.md").read_text(encoding="utf-8")
    names = {*wire.KNOWN, *(str(shape.__struct_config__.tag) for shape in OUT), *wire.ERRORS}
    names |= set(orchestrate_settings._READ)
    assert not [name for name in names if f"`{name}`" not in page and name != "audio"]
    table = page[page.index("| close | reason |") :].split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in table]
    said = {(int(code), reason) for code, reasons, _ in rows for reason in re.findall("`([a-z_.]+)`", reasons)}
    open_ended = {code for code, reason, _ in wire.CLOSES if reason == "*"}
    assert {int(code) for code, _, _ in rows} == {code for code, _, _ in wire.CLOSES}
    assert {pair for pair in said if pair[0] not in open_ended} == {
        (code, reason) for code, reason, _ in wire.CLOSES if reason != "*"
    }


SOMETHING = "*"
BY_NAME = {each.name: each.value for each in WSCloseCode} | {
    name: value for name, value in vars(call).items() if name.startswith("CLOSE_")
}


def closes_in(module: ModuleType) -> set[tuple[int, str]]:
    """Every close code that stands before a reason in the module's source, with the reason if it is written there."""

    def codes(node: ast.expr) -> list[int]:
        match node:
            case ast.Constant(value=int(code)) if 1000 <= code < 5000:
                return [code]
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in BY_NAME:
                return [BY_NAME[name]]
            case ast.IfExp():
                return codes(node.body) + codes(node.orelse)
        return []

    found: set[tuple[int, str]] = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.Tuple) else []
        for code, reason in pairwise(parts):
            told = str(reason.value) if isinstance(reason, ast.Constant) else SOMETHING
            found |= {(each, told) for each in codes(code)}
    return found


def test_the_closes_are_those_that_the_code_can_send() -> None:
    written = set().union(*map(closes_in, (call, line_guard, line_socket, orchestrate, run, sockets)))
    elsewhere = {
        (1000, SOMETHING),  # why the call ended
        (1002, SOMETHING),  # what is wrong with a fragment
        (1008, SOMETHING),  # an id that ``read_query`` has refused before
        (1009, SOMETHING),  # ``FrameTooLarge``
        (1011, SOMETHING),  # whatever kept the session from being made
        (1012, SOMETHING),  # ``shut_down``, as the next
        (1013, SOMETHING),  # no room
        (4001, SOMETHING),
    }
    assert {pair for pair in written if pair[1] == SOMETHING} == elsewhere, "where do its reasons come from?"
    written -= elsewhere | {(1011, "session.failed"), (1000, "client")}
    written -= {(1008, "line.start_timeout")}  # of a telephone, which has to say ``start`` first
    written |= {(1000, SOMETHING), (1011, SOMETHING), (1009, FrameTooLarge.default_code)}
    written |= {(1013, code) for code in host._REFUSALS}
    written |= {(1002, code) for code in re.findall(r'code="(.*?)"', inspect.getsource(fragments))}
    written |= {(1002, "frame.protocol"), (1007, "frame.protocol")}  # what picows' parser finds
    assert written == {(code, reason) for code, reason, _ in wire.CLOSES}


def test_the_query_is_the_one_that_is_read() -> None:
    query = DOCUMENT["channels"]["orchestrate"]["bindings"]["ws"]["query"]["properties"]
    assert list(query) == list(orchestrate_settings._READ)
    for name, schema in query.items():
        for value in schema.get("enum", ()):
            orchestrate_settings.read_query(f"{name}={value}")
    least = orchestrate_settings.read_query("")
    assert (least.audio, least.codec, str(least.rate)) == tuple(
        query[name]["default"] for name in ("audio", "codec", "rate")
    )
