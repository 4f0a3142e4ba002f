"""A telephone made of software: a client of the Media Streams protocol that behaves as a caller does.

``place_call(url, script)`` calls an agent, speaks the script's lines in real time, listens, and reports what it heard
and when. Everything is measured at the caller's ear, in media time.
"""

from antiphon.phone.caller import place_call
from antiphon.phone.report import CallReport, PhoneEvent, TurnReport
from antiphon.phone.room import Speakerphone
from antiphon.phone.script import Backchannel, Digits, HangUp, Manners, PhoneScript, Play, Say, Step, Wait

__all__ = [
    "Backchannel",
    "CallReport",
    "Digits",
    "HangUp",
    "Manners",
    "PhoneEvent",
    "PhoneScript",
    "Play",
    "Say",
    "Speakerphone",
    "Step",
    "TurnReport",
    "Wait",
    "place_call",
]
