"""The ``antiphon`` command.

Each sub-command is a module of this package with ``HELP`` (one line), ``EXAMPLES`` (commands and what they do),
``add_arguments(parser)`` and ``run(args) -> exit status``, imported only when it is the one asked for. What a command
works with is imported by its ``run``: help answers at once.
"""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from antiphon._version import __version__
from antiphon.errors import AntiphonError

COMMANDS = (
    ("serve", "start the server"),
    ("service", "serve one part of an agent over HTTP, or run all parts side by side"),
    ("call", "call an agent as a phone does, and measure it"),
    ("calls", "list the calls in the journal, newest first"),
    ("show", "print a conversation with its latencies"),
    ("replay", "fold a journal again and say whether it decides the same"),
    ("sim", "simulate calls on virtual time and check that no rule is ever broken"),
    ("chart", "draw a state chart as Mermaid"),
    ("keys", "make an API key and the key that signs session tokens"),
    ("token", "make a token for one session"),
    ("doctor", "say what is installed, reachable, configured and missing, and what mends it"),
)
"""Every sub-command with its ``HELP``, so that the list needs none of the modules."""

INTRO = """\
Antiphon holds real-time conversations: callers speak, an agent answers.

commands:
{commands}

examples:
  antiphon doctor                     is everything there? what mends it?
  antiphon serve                      the server, on 127.0.0.1:8004
  antiphon call                       a sample call to it, with real speech
  antiphon call --say "What are the fees?"
  antiphon calls                      what was said to it so far
  antiphon show last                  the last conversation, and where its time went

`antiphon COMMAND --help` says more. Settings: antiphon.toml here, or ANTIPHON_<SECTION>_<KEY> in the environment.

exit status: 0 done; 1 done, and something was found wrong (a violation, a missing part, an unanswered turn);
2 not done: wrong arguments or settings, or an error that was named; 130 interrupted."""

INTERRUPTED = 130
BROKEN_PIPE = 141
FAILED = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status; arguments are those of the process if none are given."""
    try:
        status = _run(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except AntiphonError as error:
        print(f"antiphon: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at exit must not complain of it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except SystemExit as end:  # argparse ends this way after --help and after wrong arguments
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0


def _run(arguments: list[str]) -> int:
    if not arguments:
        print(_usage())
        return FAILED
    name, *rest = arguments
    if name in {"-h", "--help", "help"}:
        if rest and rest[0] in dict(COMMANDS):
            return _command(rest[0], ["--help"])
        print(_usage())
        return 0
    if name in {"-V", "--version"}:
        print(f"antiphon {__version__}")
        return 0
    if name not in dict(COMMANDS):
        near = difflib.get_close_matches(name, dict(COMMANDS), n=1, cutoff=0.5)
        hint = f"did you mean `antiphon {near[0]}`?" if near else "`antiphon --help` lists the commands"
        print(f"antiphon: there is no command {name!r}: {hint}", file=sys.stderr)
        return FAILED
    return _command(name, rest)


def _command(name: str, arguments: list[str]) -> int:
    try:
        module: Any = import_module(f"antiphon.cli.{name}")
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("antiphon"):
            raise
        raise AntiphonError(
            f"{name} needs the package {missing.name!r}: run pip install antiphon", code="missing_extra"
        ) from None
    from antiphon.cli.arguments import Help, examples

    parser = argparse.ArgumentParser(
        prog=f"antiphon {name}",
        description=f"{module.HELP[:1].upper()}{module.HELP[1:]}.",
        epilog=examples(module.EXAMPLES),
        formatter_class=Help,
    )
    module.add_arguments(parser)
    status: int = module.run(parser.parse_args(arguments))
    return status


def _usage() -> str:
    width = max(len(name) for name, _ in COMMANDS)
    lines = (f"  {name:<{width}}  {what}" for name, what in COMMANDS)
    intro = INTRO.format(commands="\n".join(lines))
    return f"usage: antiphon COMMAND [options]   (or: antiphon --help | --version)\n\n{intro}"
