"""What can be set for phone lines, with the reason for each default."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

import msgspec

from antiphon.errors import ConfigError
from antiphon.secret import Secret
from antiphon.transports.twilio_menu import LanguageMenu

SAY_VOICES: Final = {
    "en-IN": "Google.en-IN-Standard-A",
    "hi-IN": "Google.hi-IN-Standard-A",
    "te-IN": "Google.te-IN-Standard-A",
    "gu-IN": "Google.gu-IN-Standard-C",
}
"""By language, the voices in which Twilio itself speaks. Source: Twilio, "Text-to-Speech", the table of voices: only
Google's speak Telugu and Gujarati. Its default voice speaks neither, and ``<Say>`` fails with a voice that does not
speak the language (Twilio, "TwiML Voice: <Say>"). These are the plain voices, which cost least; there are better ones.
"""


class LineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one line may do before it is closed. Times are checked by a sweep every half second.

    - ``bad_messages`` unusable messages may come at once, ``bad_messages_per_s`` for ever; beyond:
      1008 ``line.bad_frames``.
    - ``burst_ms`` of audio may come at once (a network that stalled and recovered delivers its backlog so), and
      ``realtime_factor`` times real time for ever. What exceeds it is dropped; after ``flood_ms`` of dropped audio
      within one flood: 1008 ``line.flood``. Each message counts as 5 ms more than its audio: empty ones cost too.
    - ``start_timeout_s`` to say ``start``, else 1008 ``line.start_timeout``.
    - ``idle_timeout_s`` without any message, else 1008 ``line.idle`` (A69).
    - ``max_unsent_bytes`` may wait for a peer that reads slowly (64 KiB is 4 s of mu-law in base64); new audio is
      dropped above it, marks and clears are not. After ``stuck_timeout_s`` of that: 1013 ``line.slow_consumer``.
    - ``reorder_window`` messages are held back to await one that is missing (20 ms each).
    - ``close_timeout_s`` for the peer to answer our close before the connection is cut.
    """

    bad_messages: int = 50
    bad_messages_per_s: float = 5.0
    burst_ms: int = 10_000
    realtime_factor: float = 3.0
    flood_ms: int = 10_000
    start_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    max_unsent_bytes: int = 65_536
    stuck_timeout_s: float = 5.0
    reorder_window: int = 8
    close_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if getattr(self, name) <= 0:
                raise ConfigError(f"twilio.limits.{name} must be above 0")


class PhoneSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The phone leg.

    - ``auth_token``: the account's; with it every webhook and every stream must carry Twilio's signature. Without it
      only this machine may connect, unless ``allow_unsigned`` is set (never do so on a public address).
    - ``public_url``: how Twilio reaches us, for example ``https://voice.example.org``; signatures are checked against
      it and never against the Host header, which the sender chooses.
    - ``stream_token``: streams must also carry the one-time token of our own TwiML. Turn it off only when the TwiML is
      written elsewhere; the signature is still checked.
    - ``reconnects``: how often one call whose stream broke is connected again before it hears the apology.
    - ``menu``: languages offered before the stream opens (A68); without choices: none.
    - ``say_voices``: by language, Twilio's voices where they are to be others than those of ``SAY_VOICES``.
    - ``apology``: said by Twilio itself, so it needs no part of ours to work.
    """

    auth_token: Secret = Secret("")
    public_url: str = ""
    media_path: str = "/media-stream"
    voice_path: str = "/voice"
    allow_unsigned: bool = False
    stream_token: bool = True
    stream_token_ttl_s: int = 120
    reconnects: int = 5
    menu: LanguageMenu = LanguageMenu()
    say_voices: dict[str, str] = {}
    apology: str = "Sorry, we have a technical problem. Please call again later."
    apology_language: str = "en-IN"
    limits: LineLimits = LineLimits()

    def __post_init__(self) -> None:
        url = urlsplit(self.public_url)
        if self.public_url and (url.scheme not in ("http", "https") or not url.netloc or url.query or url.fragment):
            raise ConfigError("server.public_url must look like https://voice.example.org")
        if self.auth_token and not self.public_url:
            raise ConfigError(
                "twilio.auth_token is set but server.public_url is not: signatures are over the public URL, so set it"
            )
        for name in ("media_path", "voice_path"):
            if not getattr(self, name).startswith("/"):
                raise ConfigError(f"twilio.{name} must start with /")
        if self.reconnects < 0 or self.stream_token_ttl_s <= 0:
            raise ConfigError("twilio.reconnects must not be negative and twilio.stream_token_ttl_s must be above 0")

    def say_voice(self, language: str) -> str:
        """Twilio's voice for a language; "" leaves the choice to Twilio."""
        return self.say_voices.get(language) or SAY_VOICES.get(language, "")

    def http_url(self, path: str) -> str:
        """The public address of one of our webhooks; a relative one when no public URL is set."""
        return self.public_url.rstrip("/") + path

    def stream_url(self) -> str:
        """The public address of the media socket, ``wss://`` for an ``https://`` public URL."""
        return "ws" + self.http_url(self.media_path).removeprefix("http")
