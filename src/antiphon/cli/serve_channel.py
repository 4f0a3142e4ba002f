"""What the supervisor and a worker say to each other: whole messages over a UNIX socket that keeps their bounds.

The first is the supervisor's ``Assignment``. Then orders go down (``LEAVE``, ``DRAIN``, ``STOP``, ``CUT``, and
``CONNECTION`` with a file descriptor), and a ``Report`` comes up when the worker serves, or why it does not, and when
it alone is told to end. The end of file is the end of the other.
"""

from __future__ import annotations

import socket
from typing import Final

import msgspec

LEAVE: Final = b"leave"
"""To drain while others go on: what would reach this worker is passed to them."""
DRAIN: Final = b"drain"
STOP: Final = b"stop"
CUT: Final = b"cut"
CONNECTION: Final = b"connection"
"""With it comes a connection that the supervisor accepted for a worker that is gone."""

MOST_BYTES: Final = 128 * 1024
"""A secrets file has 64 KiB at most; the kernel's own limit of one message is about 200 KiB."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is. ``listening`` is the file descriptor of its socket, ``folder`` what the workers share.

    ``secrets`` are those of the secrets file as it was when the server started: a worker that is started again later
    has the same as the others. They go this way because a command line and an environment can be looked at.
    """

    number: int
    count: int
    parent: int
    listening: int
    folder: str
    token_secret: str
    secrets: dict[str, str]


class Report(msgspec.Struct, frozen=True):
    """``code`` "": it serves, and people should know what ``banner`` says; else it cannot, for what ``text`` says.

    ``asks_to_leave``: it got SIGTERM, and waits for ``LEAVE`` or ``DRAIN``: whether others go on is not its to know.
    """

    banner: tuple[str, ...] = ()
    asks_to_leave: bool = False
    code: str = ""
    text: str = ""


def pair() -> tuple[socket.socket, socket.socket]:
    """The supervisor's end, which never blocks, and the worker's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs
