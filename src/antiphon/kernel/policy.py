"""The policy: every number and word list the kernel decides by. It is part of the journal's first entry.

All times are milliseconds. Waits that the caller hears as silence are kept near one second, the
longest pause that people take for a thinking pause rather than for a broken line.
"""

from __future__ import annotations

import msgspec


class Policy(msgspec.Struct, frozen=True):
    """How a session behaves. Unknown word lists are empty: then every word interrupts and none is unfinished."""

    greeting: bool = True
    """Speak first, or wait for the caller."""
    excuse: bool = True
    """Tell a caller whose line broke, and who is back, that the call goes on."""

    # -- endpointing: how long the caller may be silent before their turn is over
    endpoint_ms: int = 420
    """Silence after something that sounds complete."""
    endpoint_unfinished_ms: int = 900
    """Silence after "and", "because", a trailing comma ..."""
    endpoint_words_ms: int = 150
    """After words that come while the caller is silent: one who speaks again has opened the gate by then."""
    utterance_ms: int = 20_000
    """A longer utterance is taken in pieces; a line that is only noisy must not listen for ever."""
    digits_ms: int = 1_800
    """Pause after the last key before the digits count as an answer."""

    # -- the stages of a turn
    final_ms: int = 1_200
    """The transcriber's time for its final, more if it asks for more; then the last partial counts."""
    final_expected_ms: int = 300
    """What a final takes, until some have shown it: of words that are being answered ahead, it is asked for so long
    before the silence has lasted. A caller who goes on after that is transcribed in two pieces."""
    speculate: bool = True
    """Begin to answer while it is still being made sure that the caller is done."""
    speculations: int = 4
    """In one turn at most: each costs a request to intent, retrieval and model, what the model writes until it is
    dropped, and one segment of the voice. Of several, the last is kept for when the caller has fallen silent, but for
    words that an outside recogniser says are settled: they may use all."""
    speculations_in_speech: int = 2
    """Of these so many, the turn's first, are begun as soon as words sound complete, without waiting for a pause behind
    them; 0: none. They leave two of all for pauses and silence."""
    understand_ms: int = 300
    """Intent and retrieval run side by side; the later one is left behind."""
    filler_ms: int = 900
    """First sound of a turn: later than this, a filler is spoken."""
    refill_ms: int = 400
    """The same after an attempt failed: the caller has waited already."""
    fillers: int = 8
    """Fillers in one attempt at most: enough to cover the time that it has."""
    fallbacks: int = 1
    """Further providers that may be asked before the answer is made by no model."""
    reply_ms: int = 4_000
    """One attempt's time to be heard; then the next tier tries."""
    stall_ms: int = 1_100
    """How long a reply that broke off may stay dry."""
    phrase_ms: int = 1_500
    """A prepared phrase's time to be heard."""

    # -- interruption: silence first, decide later
    interrupt_ms: int = 700
    """No words by then and the caller is quiet: it was a cough, go on."""
    interrupt_speech_ms: int = 1_500
    """The caller has talked this long: it is their floor, whatever the transcriber says."""
    interrupt_words: int = 1
    """Words that are no backchannel and confirm a barge-in."""

    # -- silence and giving up
    silence_ms: int = 9_000
    """The caller says nothing: ask whether they are there."""
    silence_prompts: int = 2
    """Then say goodbye."""
    blank_speech_ms: int = 350
    """Speech shorter than this that transcribes to nothing was a noise, not an answer."""
    blank_prompts: int = 2
    """"Please repeat" this often, then point to the keypad."""
    failed_turns: int = 2
    """Turns in a row that ended in an apology; then transfer or goodbye."""
    transfer_target: str = ""
    """Where to send a caller who cannot be helped; empty: say goodbye instead."""
    closing_ms: int = 3_000
    """From hanging up to releasing the session even if the line says nothing."""
    ttl_ms: int = 3_600_000
    """How long a session without a line waits for its caller (B21)."""
    chars_per_second: int = 6
    """The slowest plausible speech: a segment that takes longer has lost its line."""
    max_failures: int = 3
    """Steps that may raise before the session ends itself."""
    history_turns: int = 10
    """What is remembered (A32, X31)."""

    # -- language (A36 to A39, X42)
    languages: tuple[str, ...] = ()
    """Those the conversation may change to."""
    language_switches: int = 2
    """Turns in a row in another language that change the conversation's."""
    language_min_turns: int = 1
    """Turns of the caller before it may change at all."""
    language_unlock: int = 2
    """Turns in a row that override what the caller chose expressly."""
    language_confidence: float = 0.5
    """A detection below this says nothing."""

    # -- words, per language
    backchannels: dict[str, tuple[str, ...]] = {}
    """Words and short phrases that never interrupt ("mm-hm", "haan")."""
    unfinished: dict[str, tuple[str, ...]] = {}
    """Words after which nobody is done ("and", "lekin")."""
    language_requests: dict[str, tuple[str, ...]] = {}
    """Phrases, in whatever language, that ask for this one ("speak in Telugu")."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 0:
                raise ValueError(f"policy.{name} must not be negative, it is {value}")
        if not 0 < self.language_confidence <= 1:
            raise ValueError("policy.language_confidence must be within 0..1, and not 0")
        if self.filler_ms >= self.reply_ms:
            raise ValueError("policy.filler_ms must be less than policy.reply_ms: a filler covers the wait for a reply")
        if self.interrupt_ms > self.interrupt_speech_ms:
            raise ValueError("policy.interrupt_ms must not exceed policy.interrupt_speech_ms")
        if not 0 < self.chars_per_second <= 40:
            raise ValueError("policy.chars_per_second must be within 1..40")


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Policy)


def encode_policy(policy: Policy) -> bytes:
    return _encoder.encode(policy)


def decode_policy(data: bytes) -> Policy:
    return _decoder.decode(data)
