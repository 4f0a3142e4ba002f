"""Several transcribers as one: each utterance goes to the first that its breaker admits.

An utterance's audio is kept until its final is there, so that when a transcriber fails in the middle,
says nothing in time, or is being left alone, the next one hears the whole of it, on a stream of its own.
The next utterance goes to the first again as soon as its breaker lets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

import msgspec

from antiphon.errors import AntiphonError, ProviderError, ProviderTimeout
from antiphon.runtime.breaker import CircuitBreakerOpen
from antiphon.runtime.chain import BLAMELESS, Chain, Member
from antiphon.runtime.ports import Heard, Transcriber, TranscriberStream

KEEP_S = 30
"""Of one utterance; the rest of a longer one is all that another transcriber would hear."""

log = logging.getLogger("antiphon.hearing")


class Hearing:
    """Fits ``Transcriber``; its members are started and closed by whoever made them.

    ``final_s`` is what a turn gives the final of an utterance; with another transcriber behind it, one
    gets only its share of that.
    """

    def __init__(self, chain: Chain[Transcriber], *, final_s: float) -> None:
        self.name = chain.members[0].name
        self.chain = chain
        self.final_s = final_s
        self.piece_ms = min((getattr(member.provider, "piece_ms", 0) for member in chain.members), default=0)

    async def start(self) -> None:
        """Its members are started by themselves."""

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> TranscriberStream:
        return _Stream(self, sample_rate, language, on_heard)

    async def close(self) -> None:
        """Its members are closed by themselves."""


def _nobody(heard: Heard) -> None:
    """Whom a stream tells that is closed."""


class _Ear:
    """A transcriber's stream. It counts the utterances it was asked about from 1; ``owed`` are their numbers here."""

    __slots__ = ("asked", "is_spoilt", "live", "member", "owed", "stream")

    def __init__(self, member: Member[Transcriber]) -> None:
        self.member = member
        self.asked = 0
        self.live = 0
        """The utterance that it is hearing; 0: none."""
        self.owed: dict[int, int] = {}
        self.is_spoilt = False
        """Something failed on it: the next utterance goes to another stream."""
        self.stream: TranscriberStream

    def number(self, heard: Heard) -> int:
        """The utterance that is meant; 0 if nothing is owed about it."""
        return self.owed.get(heard.utterance, 0) if heard.utterance <= self.asked else self.live

    def finish(self, number: int) -> None:
        self.live = 0
        self.asked += 1
        self.owed[self.asked] = number
        self.stream.finish(self.asked)

    def forget(self, number: int) -> None:
        if self.live == number:
            self.live = 0
        self.owed = {own: ours for own, ours in self.owed.items() if ours != number}


class _Utterance:
    """What is known of one until its end: its audio, who was asked, on which stream.

    ``timer``: when its final is due, or when its transcriber is asked again.
    """

    __slots__ = ("audio", "because", "ear", "is_finished", "number", "size", "timer", "tried")

    def __init__(self, number: int) -> None:
        self.number = number
        self.audio: deque[bytes] = deque()
        """As it was fed: joined only if somebody else is to hear it."""
        self.size = 0
        """Bytes in ``audio``."""
        self.tried: list[Member[Transcriber]] = []
        self.ear: _Ear | None = None
        self.because = ""
        self.is_finished = False
        self.timer: asyncio.TimerHandle | None = None


class _Stream:
    def __init__(self, hearing: Hearing, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> None:
        self._hearing = hearing
        self._chain = hearing.chain
        self._rate = sample_rate
        self._room = KEEP_S * sample_rate * 2
        self._language = language
        self._on_heard = on_heard
        self._current = _Utterance(1)
        self._owed: dict[int, _Utterance] = {}
        """Those that were finished and not answered."""
        self._ears: list[_Ear] = []
        """The last of them hears what is said next, if its transcriber is the best."""
        self._closed = False
        self._connect()

    # -- what the call tells ----------------------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        if self._closed or not pcm:
            return
        current = self._current
        if not current.audio and not current.tried:
            self._assign(current, "")
        current.audio.append(pcm)
        current.size += len(pcm)
        while current.size - len(current.audio[0]) >= self._room:
            current.size -= len(current.audio.popleft())
        if current.ear is not None:
            current.ear.stream.feed(pcm)

    def finish(self, utterance: int) -> None:
        current = self._current
        if self._closed or utterance < current.number:
            return
        current.number, current.is_finished = utterance, True
        self._owed[utterance] = current
        self._current = _Utterance(utterance + 1)
        if current.ear is not None:
            self._ask_final(current)
        elif current.timer is not None:
            return  # a second try is to come, which gets all of it
        elif self._assign(current, current.because):
            self._say_again(current)
        else:
            asyncio.get_running_loop().call_soon(self._answer, current)

    def hint(self, language: str) -> None:
        self._language = language
        for ear in self._ears:
            ear.stream.hint(language)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for utterance in (self._current, *self._owed.values()):
            self._leave(utterance, asyncio.CancelledError())
        self._owed.clear()
        # They know each other: only a full collection, which is seldom, would find them.
        for ear in self._ears:
            ear.stream.close()
            del ear.stream
        self._ears = []
        self._on_heard = _nobody

    # -- who hears an utterance -------------------------------------------------------------------

    def _connect(self) -> None:
        """Before the first word, if that can be; if not, the first word finds out why."""
        member = next(self._chain.admitted(), None)
        if member is not None:
            try:
                self._open(member)
            except AntiphonError as error:
                log.warning("%s could not be opened: %s", member.name, error, extra={"stage": "stt"})

    def _assign(self, utterance: _Utterance, because: str) -> bool:
        """Finds somebody who was not asked yet. False: nobody is left, and nobody hears it."""
        for member in self._chain.admitted(utterance.tried):
            utterance.tried.append(member)
            member.enter()
            try:
                utterance.ear = self._listen(member, utterance)
            except AntiphonError as error:
                log.warning("%s could not be asked: %s", member.name, error, extra={"stage": "stt"})
                member.book(error)
                because = because or error.code
                continue
            is_first = member is self._chain.members[0]
            utterance.because = "" if is_first else utterance.because or because or "breaker.open"
            return True
        utterance.because = because or utterance.because or "breaker.open"
        return False

    def _listen(self, member: Member[Transcriber], utterance: _Utterance) -> _Ear:
        """The stream of before, if it is this transcriber's and well and heard nothing since; else a new one."""
        ear = self._ears[-1] if self._ears else None
        if ear is None or ear.member is not member or ear.is_spoilt or ear.live:
            ear = self._open(member)
        ear.live = utterance.number
        return ear

    def _open(self, member: Member[Transcriber]) -> _Ear:
        """Raises ``AntiphonError``."""
        ear = _Ear(member)
        try:
            ear.stream = member.provider.open(
                sample_rate=self._rate, language=self._language, on_heard=lambda heard: self._heard(ear, heard)
            )
        except AntiphonError:
            raise
        except Exception as error:
            # A transcriber may be the application's own code; what it raises is booked as its failure.
            log.exception("%s raised", member.name, extra={"stage": "stt"})
            text = f"{member.name} could not open a stream"
            raise ProviderError(text, provider=member.name, stage="stt", code="stt.raised") from error
        self._ears.append(ear)
        self._close_unused()
        return ear

    def _close_unused(self) -> None:
        """The last one stays: what is said next may go to it."""
        for ear in self._ears[:-1]:
            if not ear.live and not ear.owed:
                self._ears.remove(ear)
                ear.stream.close()

    def _say_again(self, utterance: _Utterance) -> None:
        """To a transcriber that did not hear it as it was said."""
        ear = utterance.ear
        if ear is not None and utterance.audio:
            ear.stream.feed(b"".join(utterance.audio)[-self._room :])
        if utterance.is_finished and utterance.ear is ear:
            self._ask_final(utterance)

    def _ask_final(self, utterance: _Utterance) -> None:
        policy, others = self._chain.policy, next(self._chain.admitted(utterance.tried), None)
        limit = policy.first_within(self._hearing.final_s) if others is not None else policy.first_s
        utterance.timer = asyncio.get_running_loop().call_later(limit, self._late, utterance, limit)
        if utterance.ear is not None:
            utterance.ear.finish(utterance.number)

    def _leave(self, utterance: _Utterance, error: BaseException | None) -> None:
        """Its transcriber has nothing to do with it any more; ``error`` is how it went."""
        ear, utterance.ear = utterance.ear, None
        if utterance.timer is not None:
            utterance.timer.cancel()
            utterance.timer = None
        if ear is not None:
            ear.member.book(error)
            ear.forget(utterance.number)
            ear.is_spoilt = ear.is_spoilt or error is not None

    # -- what a transcriber tells -----------------------------------------------------------------

    def _heard(self, ear: _Ear, heard: Heard) -> None:
        number = 0 if self._closed else ear.number(heard)
        utterance = self._current if number == self._current.number else self._owed.get(number)
        if utterance is None or utterance.ear is not ear:
            return
        name = ear.member.name
        if heard.error:
            blameless = heard.error.rpartition(".")[2] in BLAMELESS
            text = "the utterance failed"
            error = ProviderError(text, provider=name, stage="stt", code=heard.error, retryable=not blameless)
            self._give_up(utterance, error)
            return
        final = heard.final and utterance.is_finished
        if final:
            del self._owed[number]
            self._leave(utterance, None)
            self._close_unused()
        because = utterance.because
        self._on_heard(msgspec.structs.replace(heard, utterance=number, final=final, provider=name, because=because))

    def _late(self, utterance: _Utterance, limit: float) -> None:
        if utterance.ear is not None:
            name = utterance.ear.member.name
            text = f"{name} gave no final for {limit:.1f} s"
            self._give_up(utterance, ProviderTimeout(text, provider=name, stage="stt", code="stt.timeout"))

    def _give_up(self, utterance: _Utterance, error: ProviderError) -> None:
        """The next transcriber hears it from its beginning."""
        self._leave(utterance, error)
        if self._assign(utterance, error.code):
            told = ("somebody is asked instead of %s: %s", error.provider, error.code)
            log.warning(*told, extra={"stage": "stt"})
            self._say_again(utterance)
        elif (member := self._chain.again(utterance.tried, error)) is not None:
            pause = self._chain.policy.pause_s(error)
            log.warning("%s is asked again in %g s: %s", member.name, pause, error.code, extra={"stage": "stt"})
            loop = asyncio.get_running_loop()
            utterance.timer = loop.call_later(pause, self._ask_again, utterance, member)
        else:
            self._nobody_is_left(utterance)
        self._close_unused()

    def _ask_again(self, utterance: _Utterance, member: Member[Transcriber]) -> None:
        """The only one there is, once more, on a new stream."""
        utterance.timer = None
        utterance.tried.append(member)
        try:
            member.enter()
        except CircuitBreakerOpen:  # it failed elsewhere during the pause
            self._nobody_is_left(utterance)
            return
        try:
            utterance.ear = self._listen(member, utterance)
        except AntiphonError as failure:
            member.book(failure)
            self._nobody_is_left(utterance)
            return
        self._say_again(utterance)

    def _nobody_is_left(self, utterance: _Utterance) -> None:
        if utterance.is_finished:  # else its end is still to come, and is answered then
            self._answer(utterance)

    def _answer(self, utterance: _Utterance) -> None:
        """Nobody heard it: that is an error, not silence."""
        if not self._closed and self._owed.pop(utterance.number, None) is utterance:
            self._on_heard(Heard(utterance.number, "", error=utterance.because))
