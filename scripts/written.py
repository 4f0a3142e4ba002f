"""Writes what is made from the code: ``python scripts/written.py``. A test compares; nobody edits these by hand.

- ``docs/configuration.md``: every setting, from the structs that read them
- ``docs/floor.md``: the floor chart, from the table that runs
- ``docs/architecture.svg``: the picture, from ``picture.py``
- ``docs/AGENT_ORCHESTRATOR_COMPLETE_IMPLEMENTATION.md``: its reference, from ``reference.py``
- ``tests/data/api.txt``: the public names and their signatures
- ``docs/api/antiphon.openapi.json``: the HTTP side, from ``http_api.py``
- ``docs/api``: the services' contracts, from ``service_api.py``
- ``docs/api/orchestrate.asyncapi.yaml``: the socket's messages, from ``orchestrate_api.py``
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

import antiphon
from antiphon.config import ENVIRONMENT, Settings
from antiphon.config_toml import render
from antiphon.kernel.chart import describe, mermaid
from antiphon.kernel.floor import FLOOR, STATES
from antiphon.kernel.policy import Policy

sys.path.insert(0, str(Path(__file__).resolve().parent))
import http_api
import orchestrate_api
import picture
import reference
import service_api
from regions import filled

ROOT = Path(__file__).resolve().parent.parent
MANUAL = "docs/AGENT_ORCHESTRATOR_COMPLETE_IMPLEMENTATION.md"
"""Its text is written by hand, its reference between marks."""

NOTE = "<!-- Written by `make docs`; change the code, not this file. -->\n"


def main() -> int:
    for place, text in written().items():
        path = ROOT / place
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"written: {place}")
    return 0


def written() -> dict[str, str]:
    """Every written file's place and text."""
    return {
        "docs/configuration.md": configuration(),
        "docs/floor.md": floor(),
        "docs/architecture.svg": picture.draw(),
        MANUAL: filled((ROOT / MANUAL).read_text(encoding="utf-8"), reference.sections()),
        "tests/data/api.txt": api(),
        "docs/api/antiphon.openapi.json": http_api.document(),
        **service_api.documents(),
        orchestrate_api.PLACE: orchestrate_api.document(),
    }


def configuration() -> str:
    variables = "\n".join(f"| `{name}` | `{place}` |" for name, place in ENVIRONMENT.items())
    policy = "\n".join(
        f"| `{name}` | {_default(getattr(Policy(), name))} | {doc} |" for name, doc in _docs_of(Policy).items()
    )
    return f"""{NOTE}
# Settings

Antiphon runs without any. What is set is taken in this order, the later wins: the defaults below; `antiphon.toml` in
the working directory, or the file that `--config` names; the file of secrets that `ANTIPHON_SECRETS_FILE` names (lines
of `KEY=VALUE`, readable by you alone); the environment; the command line. An unknown key is an error that names the
nearest valid one. `antiphon serve --print-config` prints the file below; `antiphon doctor` says what is missing.

```toml
{render(Settings()).rstrip()}
```

## In the environment

Every setting is `ANTIPHON_<SECTION>_<KEY>`, such as `ANTIPHON_SERVER_PORT=9000` or
`ANTIPHON_LLM_PROVIDER=openai`. Some have another name as well:

| variable | setting |
|---|---|
{variables}

## `[policy]`

How turns are taken. Times are milliseconds. What the caller hears as silence is kept near one second.

| key | default | what it is |
|---|---|---|
{policy}
"""


def floor() -> str:
    states = "\n".join(f"| `{name}` | {spec.doc} | {', '.join(spec.deadlines)} |" for name, spec in STATES.items())
    return f"""{NOTE}
# The floor: who may speak

One chart for every call, printed by `antiphon chart floor`. It is drawn from the table in
`src/antiphon/kernel/floor.py` that runs; every arrow lists what triggers it, with its guard in brackets. A trigger
without a rule is ignored. The chart is checked when it is built: a state that nothing reaches, one without a way out,
or one in which a caller could wait for ever is an error.

| state | meaning | deadlines that may run in it |
|---|---|---|
{states}

```mermaid
{mermaid(FLOOR).rstrip()}
```

## Every rule

As `antiphon chart floor --format table` prints them. Rules of one trigger are tried from the top; the first whose guard
holds is taken. `*` is every state, after the state's own rules.

```text
{describe(FLOOR)}
```
"""


def api() -> str:
    """Public names with their signatures and fields. Defaults of fields are settings: docs/configuration.md."""
    lines = ["Written by `make docs`. A change here is a change for users: say it in CHANGELOG.md."]
    for name in antiphon.__all__:
        lines += ["", *_described(name, getattr(antiphon, name))]
    return "\n".join(lines) + "\n"


def _described(name: str, value: Any) -> list[str]:
    if not isinstance(value, type):
        return [f"{name}: str" if isinstance(value, str) else f"{name}{_signature(value)}"]
    bases = ", ".join(base.__name__ for base in value.__bases__)
    head = f"class {name}({bases})"
    if issubclass(value, enum.Enum):
        return [head, *(f"    {member.name} = {member.value!r}" for member in value)]
    if issubclass(value, BaseException):
        code = getattr(value, "default_code", "")
        return [f"{head}: {code} ({getattr(value, 'fault', '')})", f"    {_init(value)}"]
    lines = [head]
    if issubclass(value, msgspec.Struct):
        fields = inspect.get_annotations(value)
        lines += [
            f"    {field.name}: {fields[field.name]}{'' if field.required else ' = ...'}"
            for field in msgspec.structs.fields(value)
        ]
    else:
        lines.append(f"    {_init(value)}")
    for key, member in sorted(vars(value).items()):
        if key.startswith("_"):
            continue
        if isinstance(member, property) and member.fget:
            access = "" if member.fset else " (read only)"
            lines.append(f"    {key}: {inspect.get_annotations(member.fget)['return']}{access}")
        elif isinstance(member, classmethod):
            lines.append(f"    {key}{_signature(member.__func__)} (of the class)")
        elif inspect.isfunction(member):
            lines.append(f"    {key}{_signature(member)}")
    return lines


def _init(value: type) -> str:
    for each in value.__mro__:
        if inspect.isfunction(each.__dict__.get("__init__")):
            return f"__init__{_signature(each.__dict__['__init__'])}"
    return "__init__(self)"


def _signature(function: Any) -> str:
    """As the source has it: annotations are strings there, and their quotes say nothing; functions have names."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))
    return re.sub(r"<(?:built-in )?function (\w+)(?: at 0x[0-9a-f]+)?>", r"\1", text)


def _docs_of(struct: type) -> dict[str, str]:
    """Fields and the string under each, read from the source."""
    body = ast.parse(inspect.getsource(struct)).body[0]
    docs: dict[str, str] = {}
    name = ""
    for node in getattr(body, "body", ()):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            docs[name] = ""
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs[name] = reference.ROWS.sub("", " ".join(str(node.value.value).split()))
        else:
            name = ""
    return docs


def _default(value: object) -> str:
    if value == {}:
        return "from the languages"
    return f"`{json.dumps(value)}`" if value != "" else "empty"


if __name__ == "__main__":
    sys.exit(main())
