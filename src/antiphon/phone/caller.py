"""A caller with a script: speaks, waits as a person does, interrupts, murmurs, presses keys, hangs up."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from picows import WSError, WSHandshakeError, ws_connect

from antiphon.errors import AntiphonError
from antiphon.media.codec import mulaw_encode
from antiphon.phone.ear import voiced_span
from antiphon.phone.farend import RATE
from antiphon.phone.line import LineEnded, PhoneLine
from antiphon.phone.measure import Spoken, measure
from antiphon.phone.report import CallReport, PhoneEvent
from antiphon.phone.script import Backchannel, Digits, HangUp, PhoneScript, Play, Say, Step, Wait
from antiphon.phone.sound import write_stereo

if TYPE_CHECKING:
    from antiphon.phone.voices import Voices

CONNECT_TIMEOUT_S = 10.0
DIGIT_GAP_S = 0.2
GO_ON_S = 1.5
MAX_SAID = 200
"""Of what a server says when it refuses a call, characters."""


class CallFailed(AntiphonError):
    """The call could not be placed, or its script cannot be spoken."""

    default_code = "phone.failed"


async def place_call(
    url: str,
    script: PhoneScript,
    *,
    voices: Voices | None = None,
    call_id: str | None = None,
    parameters: dict[str, str] | None = None,
    record: str | Path | None = None,
    on_event: Callable[[PhoneEvent], None] | None = None,
    timeout_s: float = 600.0,
) -> CallReport:
    """Calls ``url`` (``ws://`` or ``wss://``) and plays the script; returns what the caller heard.

    ``voices`` speaks the ``Say`` lines; without it a script may only ``Play``. Lines are made before dialling, so that
    making them costs no time in the call. ``parameters`` are the stream's custom parameters (``language`` is added from
    the script); ``record`` names a WAV file: caller left, agent right. A call that could not be placed, was ended by
    the agent or ran out of ``timeout_s`` is a report like any other (``ended_by``, ``error``); ``CallFailed`` is raised
    only for a script that cannot be spoken.
    """
    call_id = call_id or "CA" + secrets.token_hex(16)
    report = CallReport(call_id=call_id, url=url)
    sounds = await _prepare(script, voices)
    told = {"language": script.language, **(parameters or {})}
    made: list[PhoneLine] = []

    def dial() -> PhoneLine:
        made.append(PhoneLine(call_id, told, script.manners.noise, script.speakerphone))
        return made[-1]

    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await ws_connect(dial, url, websocket_handshake_timeout=CONNECT_TIMEOUT_S, max_frame_size=4 * 1024 * 1024)
    except (OSError, WSError, TimeoutError, ValueError) as error:
        return _not_reached(report, url, error)
    if not made:
        return _not_reached(report, url, ConnectionError("whatever answers there ends the connection"))
    line = made[0]
    caller = _Caller(line, script, sounds, on_event or _nobody, report)
    try:
        async with asyncio.timeout(timeout_s):
            await caller.run()
    except TimeoutError:
        report.ended_by = "timeout"
    finally:
        line.hang_up()
        await line.wait_disconnected()
        caller.finish()
    if record is not None:
        await asyncio.to_thread(write_stereo, record, bytes(line.caller), line.far.heard(0, caller.end))
    return report


def _not_reached(report: CallReport, url: str, error: Exception) -> CallReport:
    why = str(error) or type(error).__name__
    report.ended_by = "failed"
    if isinstance(error, WSHandshakeError):
        said = " ".join((error.raw_body or b"").decode(errors="replace").split())[:MAX_SAID]
        report.error = (
            f"{url} does not take the call ({why}{f', {said}' if said else ''}): an Antiphon's line is at "
            "/media-stream, and where TWILIO_AUTH_TOKEN is set it takes none but Twilio's signed calls"
        )
        return report
    report.error = f"no agent answers at {url} ({why}): start one with `antiphon serve`, or name it with --url"
    return report


def _nobody(event: PhoneEvent) -> None:
    pass


async def _prepare(script: PhoneScript, voices: Voices | None) -> dict[int, bytes]:
    """The mu-law of each step that makes a sound, by its place in the script."""
    sounds: dict[int, bytes] = {}
    for place, step in enumerate(script.steps):
        if isinstance(step, Say | Backchannel):
            if voices is None:
                raise CallFailed("the script has lines to say and no voice to say them with", code="phone.no_voice")
            sounds[place] = await voices.mulaw(step.text, step.language or script.language)
        elif isinstance(step, Play):
            sounds[place] = mulaw_encode(step.pcm)
        if place in sounds and voiced_span(sounds[place]) is None:
            raise CallFailed(f"step {place + 1} makes no audible sound", code="phone.silent_line")
    return sounds


class _Caller:
    def __init__(
        self,
        line: PhoneLine,
        script: PhoneScript,
        sounds: dict[int, bytes],
        on_event: Callable[[PhoneEvent], None],
        report: CallReport,
    ) -> None:
        self.end = 0
        self._line = line
        self._script = script
        self._manners = script.manners
        self._sounds = sounds
        self._tell = on_event
        self._report = report
        self._spoken: list[Spoken] = [Spoken(kind="greeting")]
        self._told = 0
        self._speaking = False
        self._awaiting = False

    async def run(self) -> None:
        self._event("connected", self._report.call_id)
        done = 0
        try:
            for step in self._script.steps:
                await self._take(done, step)
                done += 1
                if self._report.ended_by:
                    return
            await self._hear_out()
            self._report.ended_by = "caller"
            self._event("hung_up")
        except LineEnded:
            self._report.ended_by = "agent"
            self._event("closed", self._line.close_reason)
        finally:
            left = self._script.steps[done:]
            self._report.unsaid = 0 if self._report.ended_by == "caller" else sum(map(_begins_turn, left))

    async def _take(self, place: int, step: Step) -> None:
        match step:
            case Say() | Play():
                await self._wait_for_turn(step.barge_in_s)
                await self._speak(place, step)
            case Digits():
                await self._wait_for_turn(None)
                await self._press(step)
            case Backchannel():
                if await self._into_reply(step.after_s):
                    self._event("backchannel", step.text)
                    self._spoken[-1].backchannels.append(step.text)
                    self._line.say(self._sounds[place])
                    await self._until(self._mouth_empty, 30.0)
                    # Whoever murmurs expects the other to go on, also after a moment of doubt.
                    ear = self._line.ear
                    await self._until(lambda: ear.quiet_for(self._line.now) < RATE // 10, GO_ON_S)
            case Wait():
                await self._until(lambda: False, step.seconds)
            case HangUp():
                if step.after_s is None:
                    await self._hear_out()
                else:
                    await self._into_reply(step.after_s)
                self._report.ended_by = "caller"
                self._event("hung_up")

    # -- listening ----------------------------------------------------------------------------------

    async def _wait_for_turn(self, barge_in_s: float | None) -> None:
        if barge_in_s is None:
            await self._hear_out()
        else:
            await self._into_reply(barge_in_s)

    async def _hear_out(self) -> None:
        """Waits until the agent has answered and is done, or patience is."""
        awaited = self._manners.greeting_s if len(self._spoken) == 1 else self._manners.reply_s
        if awaited and not await self._until(self._begun, awaited):
            self._event("no_reply")
        await self._until(self._done, self._manners.longest_reply_s)

    async def _into_reply(self, after_s: float) -> bool:
        """Waits until the agent has been speaking for ``after_s``; ``False`` if it did not begin or is done before."""
        if not await self._until(self._begun, self._manners.reply_s):
            self._event("no_reply")
            return False
        ear = self._line.ear
        at = ear.first_audible + int(after_s * RATE)
        await self._until(lambda: self._line.now >= at or self._done(), after_s + 1.0)
        return not self._done()

    def _begun(self) -> bool:
        return self._line.ear.first_audible >= 0

    def _done(self) -> bool:
        line = self._line
        return line.ear.quiet_for(line.now) >= self._manners.quiet_s * RATE and not line.far.waiting(line.now)

    def _mouth_empty(self) -> bool:
        return not self._line.speaking

    async def _until(self, ready: Callable[[], bool], timeout_s: float) -> bool:
        def watched() -> bool:
            self._watch()
            return ready()

        return await self._line.until(watched, timeout_s)

    def _watch(self) -> None:
        """Tells the watcher when the agent begins and ends to speak."""
        line = self._line
        quiet = line.ear.quiet_for(line.now)
        if not self._speaking and line.ear.first_audible >= 0 and quiet < RATE // 10:
            self._speaking = True
            late = (line.ear.first_audible - self._spoken[-1].last_voiced) * 1000 / RATE
            first = self._awaiting and self._spoken[-1].last_voiced >= 0 and late >= 0
            self._awaiting = False
            self._event("agent_speaking", f"{late:.0f}" if first else "")
        elif self._speaking and quiet >= self._manners.quiet_s * RATE:
            self._speaking = False
            self._event("agent_quiet")

    # -- speaking -----------------------------------------------------------------------------------

    async def _speak(self, place: int, step: Say | Play) -> None:
        line, sound = self._line, self._sounds[place]
        text = step.text if isinstance(step, Say) else step.label or "(recording)"
        kind = "say" if isinstance(step, Say) else "play"
        span = voiced_span(sound)
        assert span is not None  # noqa: S101 - checked before dialling
        begins = line.say(sound)
        turn = Spoken(kind, text, first_voiced=begins + span[0], last_voiced=begins + span[1])
        turn.barged_in = step.barge_in_s is not None
        self._event("caller_speaking", text)
        await self._until(lambda: len(line.caller) > turn.last_voiced, len(sound) / RATE + 10.0)
        self._begin_turn(turn)
        self._event("caller_done", text)
        await self._until(self._mouth_empty, len(sound) / RATE + 10.0)

    async def _press(self, step: Digits) -> None:
        self._event("digits", step.digits)
        for place, digit in enumerate(step.digits):
            if place:
                await self._until(lambda: False, DIGIT_GAP_S)
            self._line.press(digit)
        at = len(self._line.caller)
        self._begin_turn(Spoken("digits", step.digits, first_voiced=at, last_voiced=at))

    def _begin_turn(self, turn: Spoken) -> None:
        self._spoken.append(turn)
        self._line.ear.listen_anew(self._line.now)
        self._speaking = False
        self._awaiting = True
        self._settle()

    # -- the report ---------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Measures the turns that are complete: all but the last."""
        while self._told < len(self._spoken) - 1:
            turn = measure(self._told, self._spoken[self._told], self._spoken[self._told + 1], self._agent())
            self._report.turns.append(turn)
            self._told += 1
            self._tell(PhoneEvent("turn", self._ms(), turn.said, turn))

    def finish(self) -> None:
        line = self._line
        self.end = max(len(line.caller), 0)
        self._settle()
        last = measure(self._told, self._spoken[self._told], None, self._agent())
        self._report.turns.append(last)
        self._tell(PhoneEvent("turn", self._ms(), last.said, last))
        report = self._report
        report.duration_ms = self.end * 1000 // RATE
        report.close_code, report.close_reason = line.close_code, line.close_reason
        report.marks, report.late_ticks = line.far.marks_returned, line.late_ticks
        report.cleared_ms = [at * 1000 / RATE for at in line.far.cleared]

    def _agent(self) -> bytes:
        return self._line.far.heard(0, len(self._line.caller))

    def _event(self, kind: str, text: str = "") -> None:
        self._tell(PhoneEvent(kind, self._ms(), text))

    def _ms(self) -> int:
        return len(self._line.caller) * 1000 // RATE


def _begins_turn(step: Step) -> bool:
    return isinstance(step, Say | Play | Digits)
