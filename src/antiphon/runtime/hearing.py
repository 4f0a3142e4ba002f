"""Several transcribers as one: each utterance goes to the first that its breaker admits.

An utterance's audio is kept until its final is there, so that when a transcriber fails in the middle,
says nothing in time, or is being left alone, the next one hears the whole of it. The next utterance
goes to the first again as soon as its breaker lets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from antiphon.errors import ProviderError, ProviderTimeout
from antiphon.runtime.chain import Chain, Member
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

    async def start(self) -> None:
        """Its members are started by themselves."""

    def open(self, *, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> TranscriberStream:
        return _Stream(self, sample_rate, language, on_heard)

    async def close(self) -> None:
        """Its members are closed by themselves."""

    def status(self) -> dict[str, Any]:
        return self.chain.status()


class _Utterance:
    """What is known of one until its final: its audio, who was asked, who is asked now, since when its end is owed."""

    __slots__ = ("audio", "because", "finished", "member", "timer", "tried")

    def __init__(self) -> None:
        self.audio = bytearray()
        self.tried: list[Member[Transcriber]] = []
        self.member: Member[Transcriber] | None = None
        self.because = ""
        self.finished = False
        self.timer: asyncio.TimerHandle | None = None


class _Ear:
    """A member's stream. It counts the utterances it was asked about from 1; ``ours`` are their numbers here."""

    __slots__ = ("asked", "member", "ours", "stream")

    def __init__(self, member: Member[Transcriber]) -> None:
        self.member = member
        self.asked = 0
        self.ours: dict[int, int] = {}
        self.stream: TranscriberStream

    def finish(self, number: int) -> None:
        self.asked += 1
        self.ours[self.asked] = number
        self.stream.finish(self.asked)


class _Stream:
    def __init__(self, hearing: Hearing, sample_rate: int, language: str, on_heard: Callable[[Heard], None]) -> None:
        self._hearing = hearing
        self._chain = hearing.chain
        self._rate = sample_rate
        self._language = language
        self._on_heard = on_heard
        self._owed: dict[int, _Utterance] = {}
        self._utterance = 1
        self._ear: _Ear | None = None
        self._closed = False
        self._listen(next(self._chain.admitted(), self._chain.members[0]))

    # -- what the call tells ----------------------------------------------------------------------

    def feed(self, pcm: bytes) -> None:
        if self._closed or not pcm:
            return
        current = self._owed.get(self._utterance) or self._begin()
        room = KEEP_S * self._rate * 2
        current.audio += pcm
        if len(current.audio) > room:
            del current.audio[: len(current.audio) - room]
        if current.member is not None and self._ear is not None:
            self._ear.stream.feed(pcm)

    def finish(self, utterance: int) -> None:
        if self._closed or utterance < self._utterance:
            return
        current = self._owed.get(self._utterance) or self._begin()
        current.finished = True
        number, self._utterance = self._utterance, utterance + 1
        if number != utterance:
            self._owed[utterance] = self._owed.pop(number)
        if current.member is None:
            self._answer_later(utterance)
        else:
            self._ask_final(utterance, current)

    def hint(self, language: str) -> None:
        self._language = language
        if self._ear is not None:
            self._ear.stream.hint(language)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for utterance in self._owed.values():
            if utterance.member is not None:
                utterance.member.book(asyncio.CancelledError())
            if utterance.timer is not None:
                utterance.timer.cancel()
        self._owed.clear()
        if self._ear is not None:
            self._ear.stream.close()

    # -- who hears an utterance -------------------------------------------------------------------

    def _begin(self) -> _Utterance:
        """A new utterance: the best transcriber that may be asked hears it."""
        current = self._owed[self._utterance] = _Utterance()
        if len(self._owed) == 1:  # nothing is owed by the present one: it may be left without a loss
            self._assign(current, "")
        elif self._ear is not None and self._ear.member.breaker.admit():
            current.member = self._ear.member
            current.tried.append(self._ear.member)
        return current

    def _assign(self, utterance: _Utterance, because: str) -> bool:
        """Finds somebody who was not asked yet. False: nobody is left, and nobody hears it."""
        utterance.member = None
        for member in self._chain.admitted(utterance.tried):
            member.enter()
            utterance.member = member
            utterance.tried.append(member)
            first = because or ("breaker.open" if member is not self._chain.members[0] else "")
            utterance.because = utterance.because or first
            if self._ear is None or self._ear.member is not member:
                self._listen(member)
            return True
        utterance.because = because or "breaker.open"
        return False

    def _listen(self, member: Member[Transcriber]) -> None:
        if self._ear is not None:
            self._ear.stream.close()
        ear = self._ear = _Ear(member)
        ear.stream = member.provider.open(
            sample_rate=self._rate, language=self._language, on_heard=lambda heard: self._heard(ear, heard)
        )

    def _ask_final(self, number: int, utterance: _Utterance) -> None:
        ear = self._ear
        assert ear is not None  # noqa: S101 - an utterance with a member has an ear
        policy, others = self._chain.policy, next(self._chain.admitted(utterance.tried), None)
        limit = policy.first_within(self._hearing.final_s) if others is not None else policy.first_s
        utterance.timer = asyncio.get_running_loop().call_later(limit, self._late, number, limit)
        ear.finish(number)

    # -- what a transcriber tells -----------------------------------------------------------------

    def _heard(self, ear: _Ear, heard: Heard) -> None:
        if self._closed or ear is not self._ear:
            return
        number = self._utterance if heard.utterance > ear.asked else ear.ours.get(heard.utterance, 0)
        utterance = self._owed.get(number)
        if utterance is None or utterance.member is not ear.member:
            return
        if heard.error:
            name = ear.member.name
            blameless = heard.error.rpartition(".")[2] == "language"
            error = ProviderError(
                "the utterance failed", provider=name, stage="stt", code=heard.error, retryable=not blameless
            )
            self._give_up(number, utterance, error)
        elif heard.final:
            self._settle(number, utterance, None)
            self._tell(heard, number, utterance)
        else:
            self._tell(heard, number, utterance)

    def _late(self, number: int, limit: float) -> None:
        utterance = self._owed.get(number)
        if utterance is not None and utterance.member is not None:
            name = utterance.member.name
            text = f"{name} gave no final for {limit:.1f} s"
            self._give_up(number, utterance, ProviderTimeout(text, provider=name, stage="stt", code="stt.timeout"))

    def _give_up(self, number: int, utterance: _Utterance, error: ProviderError) -> None:
        """The next transcriber hears all that is owed, from the beginning of each utterance."""
        failed = utterance.member
        if failed is not None:
            failed.book(error)
        if utterance.timer is not None:
            utterance.timer.cancel()
        if not self._assign(utterance, error.code):
            utterance.because = error.code
            if utterance.finished:  # else its end is still to come, and is answered then
                self._answer(number)
            return
        assert utterance.member is not None  # noqa: S101 - _assign found one
        log.warning("%s is asked instead of %s: %s", utterance.member.name, error.provider, error.code)
        self._say_again(number, utterance)
        for later in sorted(each for each in self._owed if each > number):
            self._move(later, self._owed[later], failed)

    def _say_again(self, number: int, utterance: _Utterance) -> None:
        assert self._ear is not None  # noqa: S101 - it was just assigned
        self._ear.stream.feed(bytes(utterance.audio))
        if utterance.finished:
            self._ask_final(number, utterance)

    def _move(self, number: int, utterance: _Utterance, away_from: Member[Transcriber] | None) -> None:
        """What came after a failed utterance goes along: the numbers of a stream have no gaps."""
        if utterance.member is not None:
            utterance.member.book(asyncio.CancelledError())
        if utterance.timer is not None:
            utterance.timer.cancel()
        ear = self._ear
        if ear is not None and ear.member is not away_from and ear.member.breaker.admit():
            utterance.member = ear.member
            utterance.tried.append(ear.member)
            self._say_again(number, utterance)
        elif utterance.finished:
            utterance.member, utterance.because = None, "breaker.open"
            self._answer(number)

    # -- answers ----------------------------------------------------------------------------------

    def _settle(self, number: int, utterance: _Utterance, error: BaseException | None) -> None:
        del self._owed[number]
        if utterance.timer is not None:
            utterance.timer.cancel()
        if utterance.member is not None:
            utterance.member.book(error)

    def _tell(self, heard: Heard, number: int, utterance: _Utterance) -> None:
        name = utterance.member.name if utterance.member is not None else ""
        self._on_heard(msgspec.structs.replace(heard, utterance=number, provider=name, because=utterance.because))

    def _answer_later(self, number: int) -> None:
        asyncio.get_running_loop().call_soon(self._answer, number)

    def _answer(self, number: int) -> None:
        """Nobody heard it: that is an error, not silence."""
        utterance = self._owed.pop(number, None)
        if utterance is not None and not self._closed:
            self._on_heard(Heard(number, "", error=utterance.because or "breaker.open"))
