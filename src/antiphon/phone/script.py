"""What a simulated caller does, step by step, and how patient they are."""

from __future__ import annotations

import msgspec

from antiphon.phone.room import Speakerphone


class Say(msgspec.Struct, frozen=True, tag=True):
    """Speak ``text`` with a synthetic voice. It begins a turn.

    ``barge_in_s``: do not wait for the agent to finish; speak this long into what it answers to the line before.
    """

    text: str
    language: str = ""
    barge_in_s: float | None = None


class Play(msgspec.Struct, frozen=True, tag=True):
    """Play ``pcm`` (16-bit, mono, 8000 Hz) as the caller's voice. It begins a turn; ``label`` names it."""

    pcm: bytes
    label: str = ""
    barge_in_s: float | None = None


class Backchannel(msgspec.Struct, frozen=True, tag=True):
    """Utter ``text`` ("mm-hm") ``after_s`` into the agent's reply, as a listener does. It begins no turn."""

    text: str = "mm-hm"
    after_s: float = 1.0
    language: str = ""


class Digits(msgspec.Struct, frozen=True, tag=True):
    """Press keys (``0-9``, ``*``, ``#``), 200 ms apart. It begins a turn."""

    digits: str


class Wait(msgspec.Struct, frozen=True, tag=True):
    """Say nothing for a while, whatever the agent does."""

    seconds: float


class HangUp(msgspec.Struct, frozen=True, tag=True):
    """Hang up; later steps are not taken. ``after_s``: into what the agent says; else when it is done."""

    after_s: float | None = None


Step = Say | Play | Backchannel | Digits | Wait | HangUp


class Manners(msgspec.Struct, frozen=True, kw_only=True):
    """How a caller listens. Seconds.

    - ``quiet_s``: the agent has finished when it was silent for this long.
    - ``greeting_s``: how long to wait for the agent to speak first; 0: do not wait.
    - ``reply_s``: how long to wait for a reply before going on with the next line.
    - ``longest_reply_s``: after so much talk the caller speaks all the same.
    - ``noise``: amplitude of the line's background noise in 16-bit units, 0 to 200; below what counts as audible.
    """

    quiet_s: float = 0.7
    greeting_s: float = 5.0
    reply_s: float = 12.0
    longest_reply_s: float = 60.0
    noise: int = 0


class PhoneScript(msgspec.Struct, frozen=True):
    """The steps of a call. After the last one the caller waits for the reply and hangs up."""

    steps: tuple[Step, ...] = ()
    language: str = "en-IN"
    manners: Manners = Manners()
    speakerphone: Speakerphone | None = None
    """The caller does not hold the phone to the ear: the agent's voice comes back with theirs."""
