"""The reference of the classes for embedding, read from the classes themselves; ``written.py`` puts it into its place.

Signatures and defaults are the code's, words are those of the docstrings.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

import antiphon
from antiphon import audio_utils
from antiphon.errors import AntiphonError
from antiphon.facade.agent_orchestrator import AgentOrchestrator
from antiphon.facade.context_manager import ContextManager
from antiphon.facade.language_coordinator import LanguageCoordinator
from antiphon.facade.metrics import MetricsCollector, TurnFailure, TurnMetrics
from antiphon.facade.ports_as_modules import ResponderModule, SynthesizerModule, TranscriberModule
from antiphon.facade.task_router import TaskRouter
from antiphon.providers.sarvam_ai import SarvamAI
from antiphon.runtime.batch import LIMITS, TURN_S
from antiphon.runtime.batch import OPTIONS as BATCH_OPTIONS
from antiphon.runtime.breaker import CircuitBreaker, CircuitBreakerOpen
from antiphon.runtime.resilience import StagePolicy
from antiphon.runtime.stages import OPTIONS, Limits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from shapes import Answers, shapes

CLASSES: tuple[type, ...] = (
    AgentOrchestrator,
    TaskRouter,
    ContextManager,
    LanguageCoordinator,
    MetricsCollector,
    TurnMetrics,
    TurnFailure,
    CircuitBreaker,
    CircuitBreakerOpen,
    SarvamAI,
    TranscriberModule,
    ResponderModule,
    SynthesizerModule,
)
FUNCTIONS = (audio_utils.mulaw_to_wav, audio_utils.wav_to_mulaw, audio_utils.encode_mulaw_base64)
HOOKS = frozenset({"_update_system_prompt_for_language"})
"""Not public by name, and yet meant to be overridden (A21)."""

ROWS = re.compile(r" \((?:[A-DX]\d+[, ]*(?:to )?)+\)")
"""Numbers of requirements: they help who maintains, not who uses."""
CELL_CHARS = 60
"""A signature longer than this stands in a block of its own instead of a table's cell."""

TYPES: dict[tuple[type, str], str] = {
    (AgentOrchestrator, "metrics"): "Metrics | None",
    (TaskRouter, "stt"): "SpeechToText",
    (TaskRouter, "llm"): "Chat",
    (TaskRouter, "tts"): "TextToSpeech",
    (CircuitBreaker, "timeout"): "float",
    (CircuitBreakerOpen, "retry_after_s"): "float | None",
}
"""Where the value at hand says less than what it may be."""

NOTES: dict[tuple[type | None, str], str] = {
    (AgentOrchestrator, "task_router"): "Asks the modules.",
    (AgentOrchestrator, "context_manager"): "Remembers what was said.",
    (AgentOrchestrator, "language_coordinator"): "Decides the language.",
    (AgentOrchestrator, "metrics"): "The collector it was given.",
    (AgentOrchestrator, "is_processing"): "A turn is being processed.",
    (TaskRouter, "stt"): "The module, or its wrapper.",
    (TaskRouter, "llm"): "The module, or its wrapper.",
    (TaskRouter, "tts"): "The module, or its wrapper.",
    (TaskRouter, "breakers"): "By stage; empty if they are switched off.",
    (ContextManager, "max_history"): "Turns that are kept; messages: twice as many.",
    (ContextManager, "conversation_history"): "What was said, the oldest first.",
    (ContextManager, "user_metadata"): "Yours: what is known of the caller.",
    (ContextManager, "session_context"): "Yours: what is known of this session.",
    (ContextManager, "current_language"): "Of the last turn.",
    (LanguageCoordinator, "min_turns_before_switch"): "Turns before the language may change at all.",
    (LanguageCoordinator, "history_size"): "Detections that are remembered.",
    (LanguageCoordinator, "selected_language"): "What the conversation is held in.",
    (LanguageCoordinator, "last_different_language"): "The other language that was heard last.",
    (LanguageCoordinator, "consecutive_different_count"): "How often in a row.",
    (MetricsCollector, "turn_metrics"): "Turns that were answered.",
    (MetricsCollector, "failures"): "Turns that were not.",
    (CircuitBreaker, "failure_threshold"): "Failures in a row that open it.",
    (CircuitBreaker, "timeout"): "Seconds that it stays open.",
    (CircuitBreaker, "recovery_timeout"): "The same as `timeout`.",
    (CircuitBreaker, "name"): "Of the provider.",
    (CircuitBreaker, "failure_count"): "Failures in a row; a success makes it 0.",
    (CircuitBreaker, "succeeded"): "The request went well.",
    (CircuitBreaker, "failed"): "The request failed.",
    (None, "code"): "Stable across releases.",
    (None, "provider"): "Its name.",
    (None, "stage"): "stt, llm, tts ...",
    (None, "retryable"): "The same request may succeed later.",
    (None, "retry_after_s"): "Seconds.",
    (SarvamAI, "stt_url"): "Where `speech_to_text` goes.",
    (SarvamAI, "llm_url"): "Where `chat` goes.",
    (SarvamAI, "tts_url"): "Where `text_to_speech` goes.",
    (SarvamAI, "stt_model"): "As given.",
    (SarvamAI, "llm_model"): "As given.",
    (SarvamAI, "sample_rate"): "Hz, of the speech.",
    (SarvamAI, "max_tokens"): "Of one answer of the model.",
}
"""What a name that has no docstring means."""


EXAMPLES: dict[type, Any] = {
    AgentOrchestrator: lambda: AgentOrchestrator(Answers(), Answers(), Answers(), metrics_collector=MetricsCollector()),
    TaskRouter: lambda: TaskRouter(Answers(), Answers(), Answers()),
    ContextManager: ContextManager,
    LanguageCoordinator: LanguageCoordinator,
    MetricsCollector: MetricsCollector,
    CircuitBreaker: CircuitBreaker,
    CircuitBreakerOpen: lambda: CircuitBreakerOpen("Circuit breaker is open"),
    SarvamAI: lambda: SarvamAI("a key"),
}


def sections() -> dict[str, str]:
    """The written parts, by the name of their region."""
    return {
        "api": "\n\n".join([*map(_class, CLASSES), _functions()]),
        "shapes": shapes(),
        "limits": limits(),
        "errors": errors(),
    }


# -- classes ---------------------------------------------------------------------------------------


def _class(of: type) -> str:
    lines = [f"### `{of.__name__}`", "", f"`{of.__module__}`", ""]
    lines += ["```text", _call(of.__name__, inspect.signature(of)), "```", "", _words(of), ""]
    rows = [*_attributes(of), *_members(of)]
    if rows:
        lines += ["| member | what it is |", "|---|---|", *(f"| {name} | {doc} |" for name, doc in rows)]
    return "\n".join(lines).rstrip()


def _members(of: type) -> Iterator[tuple[str, str]]:
    """Properties, then methods, as the source has them."""
    own = [(name, member) for name, member in vars(of).items() if not name.startswith("_") or name in HOOKS]
    for name, member in own:
        if isinstance(member, property) and member.fget:
            access = "" if member.fset else ", read only"
            returns = _bare(inspect.get_annotations(member.fget)["return"])
            yield _cell(f"{name}: {returns}") + access, _line(_words(member)) or _note(of, name)
    for name, member in own:
        if inspect.isfunction(member):
            kind = "async " if inspect.iscoroutinefunction(member) else ""
            words = _line(_words(member)) or _note(of, name)
            yield _cell(kind + _call(name, inspect.signature(member), wide=True)), words


def _cell(code: str) -> str:
    return f"`{code}`".replace("|", "\\|")


def _attributes(of: type) -> Iterator[tuple[str, str]]:
    """What ``__init__`` sets, with types and what is written under it. A dataclass's signature says all."""
    if of not in EXAMPLES:
        return
    known = _set_in_init(of)
    for name, value in vars(EXAMPLES[of]()).items():
        if not name.startswith("_"):
            kind, doc = known.get(name, ("", ""))
            yield _cell(f"{name}: {TYPES.get((of, name)) or kind or type(value).__name__}"), doc or _note(of, name)


def _set_in_init(of: type) -> dict[str, tuple[str, str]]:
    """Attribute to its annotation, if it has one, and to the string literal under its assignment."""
    found: dict[str, tuple[str, str]] = {}
    init = of.__dict__.get("__init__")
    body = ast.parse(textwrap.dedent(inspect.getsource(init))).body[0] if inspect.isfunction(init) else None
    name = ""
    for node in getattr(body, "body", ()):
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Attribute):
            name = target.attr
            found[name] = (ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else "", "")
        elif name and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found[name] = (found[name][0], _line(_plain(str(node.value.value))))
        else:
            name = ""
    return found


def _functions() -> str:
    lines = ["### Audio", "", f"`{audio_utils.__name__}`", "", "| function | what it does |", "|---|---|"]
    for each in FUNCTIONS:
        lines.append(f"| {_cell(_call(each.__name__, inspect.signature(each), wide=True))} | {_line(_words(each))} |")
    return "\n".join(lines)


def _call(name: str, signature: inspect.Signature, *, wide: bool = False) -> str:
    """As one would write it; over several lines if it is long, unless ``wide``."""
    parameters = [each for each in signature.parameters.values() if each.name != "self"]
    shown: list[str] = []
    for each in parameters:
        if each.kind is each.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        shown.append(_tidy(str(each)))
    returns = signature.return_annotation
    after = "" if returns in {inspect.Signature.empty, "None", None} else f" -> {_bare(returns)}"
    line = f"{name}({', '.join(shown)}){after}"
    if wide or len(line) <= CELL_CHARS:
        return line
    return f"{name}(\n" + "".join(f"    {each},\n" for each in shown) + f"){after}"


def _tidy(parameter: str) -> str:
    """Annotations are strings in the source, and their quotes say nothing; functions have names."""
    text = re.sub(r"(: )'([^']*)'", r"\1\2", parameter)
    text = re.sub(r"<(?:built-in )?function (\w+)(?: at 0x[0-9a-f]+)?>", r"\1", text)
    return text.replace("<factory>", "now").replace("'", '"')


def _note(of: type, name: str) -> str:
    return NOTES.get((of, name)) or NOTES.get((None, name), "")


def _bare(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))


def _words(of: Any) -> str:
    """The docstring. A class that only repeats itself (a dataclass) has none worth showing."""
    return _plain(inspect.cleandoc(of.__doc__ or ""))


def _plain(text: str) -> str:
    return ROWS.sub("", text.replace("``", "`"))


def _line(text: str) -> str:
    """For the cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


# -- errors ----------------------------------------------------------------------------------------


def errors() -> str:
    """The tree of errors, each class under the one that it is a kind of."""
    lines = ["| error | code | fault | what it means |", "|---|---|---|---|"]
    for each in _tree(AntiphonError):
        depth = len(each.__mro__) - len(AntiphonError.__mro__)
        words = _line(_words(each)).partition(". ")[0].rstrip(".")
        lines.append(f"| {'· ' * depth}`{each.__name__}` | `{each.default_code}` | {each.fault} | {words} |")
    return "\n".join(lines)


def _tree(of: type[AntiphonError]) -> Iterator[type[AntiphonError]]:
    yield of
    for name in antiphon.__all__:
        each = getattr(antiphon, name)
        if isinstance(each, type) and each.__bases__ == (of,):
            yield from _tree(each)


# -- limits ----------------------------------------------------------------------------------------


def limits() -> str:
    """The limits of a stage, for a turn at a time and on the phone."""
    names = StagePolicy.__struct_fields__
    lines = ["| | " + " | ".join(f"`{name}`" for name in names) + " |", "|---|" + "---:|" * len(names)]
    phone = msgspec.structs.asdict(Limits())
    for where, policies in (("`process_turn`", LIMITS), ("on the phone", phone)):
        for stage, policy in policies.items():
            used = OPTIONS[stage] if policies is phone else BATCH_OPTIONS
            values = (_value(getattr(policy, name)) if name in used else "–" for name in names)
            lines.append(f"| {where}: {stage} | " + " | ".join(values) + " |")
    kinds = {field.name: field.type for field in msgspec.inspect.type_info(StagePolicy).fields}  # type: ignore[attr-defined]
    what = "\n".join(f"- `{name}`: {_description(kinds[name])}" for name in names)
    return "\n".join([*lines, "", what, "", f"A whole turn of `process_turn` has {TURN_S:g} s (`turn_timeout`)."])


def _value(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"


def _description(kind: Any) -> str:
    extra = getattr(kind, "extra_json_schema", None) or {}
    return str(extra.get("description", ""))
