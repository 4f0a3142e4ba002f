"""Keeps the rooms small and finished: ``python scripts/rooms.py``; status 1 lists what is not.

- source files under 400 lines, functions under 60 (tests may be longer: lists of cases, and scenarios)
- no function that only promises to be written, no note to do it later, no test that is switched off
- no path of somebody's machine, no address of a package index
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = ("src", "bench", "scripts", "examples")
FOLDERS = (*CODE, "tests", "docs", ".ci")
TEXT = {".py", ".toml", ".md", ".txt", ".sh", ".yml", ".yaml", ".lock", ".svg", ".html", ".js", ".css", ""}
FILE_LINES = 400
FUNCTION_LINES = 60

LATER = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
SWITCHED_OFF = re.compile(
    r"\bpytest\.(mark\.(skip|xfail|skipif(?!\(sys\.platform))|skip|xfail|importorskip)\b|\bunittest\.skip"
)
MACHINE = re.compile(
    r"(?<![\w./$}-])/(root|home/\w+|Users/\w+|work/\w+|opt/(pypi|wheels))\b"
    r"|\bpypi\.org/simple|\bpythonhosted\.org|(?<!no-emit-)(index-url|find-links)|trusted-host"
)
THIS = Path(__file__).resolve()


def main() -> int:
    problems = [problem for path in files() for problem in examine(path)]
    for problem in problems:
        print(problem)
    if not problems:
        print("rooms: small and finished")
    return 1 if problems else 0


def files() -> Iterator[Path]:
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and path.suffix in TEXT)
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


def examine(path: Path) -> Iterator[str]:
    """What is wrong with one file, each as ``path:line: what``."""
    where = path.relative_to(ROOT)
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    code = path.suffix == ".py" and where.parts[0] in CODE
    if code and len(lines) >= FILE_LINES:
        yield f"{where}:{len(lines)}: {len(lines)} lines; files stay under {FILE_LINES}"
    if path != THIS:
        for number, line in enumerate(lines, 1):
            if found := LATER.search(line):
                yield f"{where}:{number}: {found[0]}: finish it, or say what is so and why"
            if found := MACHINE.search(line):
                yield f"{where}:{number}: {found[0]} belongs to one machine"
            if where.parts[0] == "tests" and (found := SWITCHED_OFF.search(line)):
                yield f"{where}:{number}: {found[0]}: a test runs or is taken out"
    if path.suffix == ".py":
        for function, promised in functions(ast.parse(text), in_protocol=False):
            length = lines_of(function)
            if code and length >= FUNCTION_LINES:
                yield f"{where}:{function.lineno}: {function.name} has {length} lines; functions stay under 60"
            if code and promised:
                yield f"{where}:{function.lineno}: {function.name} does nothing yet"


Function = ast.FunctionDef | ast.AsyncFunctionDef


def lines_of(function: Function) -> int:
    """Without the docstring: nobody should say less of a function to make it fit."""
    length = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and is_docstring(first.value):
        length -= (first.end_lineno or 0) - first.lineno + 1
    return length


def functions(node: ast.AST, *, in_protocol: bool) -> Iterator[tuple[Function, bool]]:
    """Every function, and whether it is only a promise. In a Protocol and under ``@overload`` that is right."""
    for child in ast.iter_child_nodes(node):
        protocol = in_protocol
        if isinstance(child, ast.ClassDef):
            protocol = any("Protocol" in ast.unparse(base) for base in child.bases)
        if isinstance(child, Function):
            overload = any("overload" in ast.unparse(each) for each in child.decorator_list)
            yield child, is_promise(child) and not (protocol or overload)
        yield from functions(child, in_protocol=protocol)


def is_promise(function: Function) -> bool:
    """``...``, or an error that says that it is not written. ``pass`` is a decision: to do nothing."""
    body = [each for each in function.body if not (isinstance(each, ast.Expr) and is_docstring(each.value))]
    if len(body) != 1:
        return False
    only = body[0]
    if isinstance(only, ast.Expr) and isinstance(only.value, ast.Constant):
        return only.value.value is ...
    return isinstance(only, ast.Raise) and only.exc is not None and "NotImplemented" in ast.unparse(only.exc)


def is_docstring(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


if __name__ == "__main__":
    sys.exit(main())
