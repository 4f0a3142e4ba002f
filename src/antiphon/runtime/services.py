"""What a host needs to hold calls: the providers, the shared parts of the media path, the settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from antiphon.kernel import interruption
from antiphon.kernel.events import AnyEvent
from antiphon.kernel.policy import Policy
from antiphon.media.gate import GateSettings
from antiphon.runtime.effects import Effector
from antiphon.runtime.listen import Identify, Listener
from antiphon.runtime.pacing import PacingWheel
from antiphon.runtime.phrases import PhraseBook
from antiphon.runtime.ports import Journal, Line, VoiceActivity
from antiphon.runtime.stages import Providers, Stages
from antiphon.runtime.writer import JournalWriter

EarFactory = Callable[[Line, str, int, Callable[[AnyEvent], None]], Listener]
"""(line, language, first utterance, post) to an ear."""


def wall_clock() -> str:
    """UTC now, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True)
class Media:
    """How audio is sent and heard. ``message_ms`` and ``lead_ms`` as in ``media.playout``."""

    message_ms: int = 100
    lead_ms: int = 200
    gate: GateSettings = field(default_factory=GateSettings)
    voice: str = ""
    voices: Mapping[str, str] = field(default_factory=dict)
    """Per language; ``voice`` is for the others."""

    def voice_of(self, language: str) -> str:
        return self.voices.get(language, self.voice)


@dataclass(frozen=True)
class Services:
    """Shared by all calls of a process."""

    providers: Providers
    phrases: PhraseBook
    wheel: PacingWheel
    journal: Journal
    writer: JournalWriter
    policy: Policy = field(default_factory=Policy)
    media: Media = field(default_factory=Media)
    activity: VoiceActivity | None = None
    ear: EarFactory | None = None
    """Another ear than ``listen.Ear`` (which needs ``activity``)."""
    effectors: Mapping[str, Effector] = field(default_factory=dict)
    identify: Identify | None = None
    """Tells the language of what was transcribed, where the transcriber does not."""
    language: str = "en-IN"
    max_sessions: int = 1000
    wall_clock: Callable[[], str] = wall_clock
    """What a session's first entry says of when it began: for people to read, never for deciding."""
    stages: Stages = field(init=False)
    """The providers, each behind its breaker."""

    def __post_init__(self) -> None:
        interruption.prepare(self.policy)
        object.__setattr__(self, "stages", Stages(self.providers, final_s=self.policy.final_ms / 1000))
