"""What the webhooks and the streams of one process share."""

from __future__ import annotations

from antiphon.runtime.ports import Switchboard
from antiphon.transports.sweep import LineSweep
from antiphon.transports.twilio import TwilioLine
from antiphon.transports.twilio_auth import Once, StreamTokens
from antiphon.transports.twilio_calls import CallBook
from antiphon.transports.twilio_settings import PhoneSettings


class Exchange:
    """Make one per process; give it to ``server.twilio.router`` and ``server.twilio_media.media_route``.

    Processes that serve together share what ``book`` and ``once`` stand on.
    """

    def __init__(
        self,
        settings: PhoneSettings,
        *,
        book: CallBook | None = None,
        sweep: LineSweep | None = None,
        once: Once | None = None,
    ) -> None:
        self.settings = settings
        # Not "or": both have a length, and begin empty.
        self.book = CallBook() if book is None else book
        self.sweep = LineSweep() if sweep is None else sweep
        self.tokens = StreamTokens(settings, once=once) if settings.auth_token and settings.stream_token else None

    def line(self, switchboard: Switchboard) -> TwilioLine:
        """A listener for one accepted stream."""
        return TwilioLine(switchboard, self.settings, self.sweep, self.book, self.tokens)
