"""``antiphon call``: a telephone that calls an agent, speaks to it, and says how it was."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from antiphon.cli.arguments import seconds, whole

HELP = "call an agent as a phone does, and measure it"
EXAMPLES = (
    ("antiphon call", "the sample conversation with the server here"),
    ('antiphon call --say "What are the fees?"', "a question of your own"),
    ('antiphon call --say "What are the fees?" --barge-in 1 --say "And hostels?"', "interrupt the answer"),
    ("antiphon call --wav question.wav --record call.wav", "a recording as the caller, and all of it kept"),
    ("antiphon call --url wss://voice.example.org/media-stream", "a server elsewhere"),
    ("antiphon call --calls 20", "twenty at once, with percentiles"),
)
SAMPLE = ("What are the admission requirements?", "And for international students?", "Thank you, goodbye.")
MAX_CALLS = 1000
MAX_NOISE = 200


class _Ordered(argparse.Action):
    """Keeps what is said, played and pressed in the order of the command line."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option: str | None = None) -> None:
        namespace.script = [*(namespace.script or []), (self.dest, values)]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Calls an agent over the Twilio Media Streams protocol. Lines, recordings and keys follow in the order given; "
        "without any, a sample conversation is spoken.\n\n"
        "A turn counts as answered if its answer was heard: an apology or a request to repeat is none. That is read "
        "from the agent's journal, where it is on this machine; by ear alone every reply counts. "
        "Exit status: 0 every turn was answered; 1 not every one; 2 the call could not be placed."
    )
    parser.set_defaults(script=None)
    _add_script(parser)
    parser.add_argument(
        "--url", help="the agent's media stream (default: the server of the settings, ws://127.0.0.1:8004/media-stream)"
    )
    parser.add_argument("--config", metavar="FILE", help="settings of the server to call (default: antiphon.toml here)")
    parser.add_argument("--journal", metavar="PATH", help="the agent's journal (default: that of the settings)")
    parser.add_argument("--by-ear", action="store_true", help="do not look into the agent's journal")
    parser.add_argument("--language", default="en-IN", metavar="TAG", help="of the lines and the call (default en-IN)")
    parser.add_argument("--call-id", metavar="ID", help="call under this id: an id known to the agent goes on with it")
    parser.add_argument("--param", action="append", default=[], metavar="NAME=VALUE", help="a custom stream parameter")
    parser.add_argument("--tts", default="espeak", metavar="NAME", help="the caller's voice (default espeak)")
    parser.add_argument("--voice", default="", metavar="NAME", help="a voice of that provider")
    parser.add_argument(
        "--noise",
        type=whole(0, MAX_NOISE),
        default=0,
        metavar=f"0-{MAX_NOISE}",
        help="amplitude of noise on the line (default 0)",
    )
    parser.add_argument(
        "--quiet", type=seconds, default=0.7, metavar="S", help="silence after which the agent is done (default 0.7)"
    )
    parser.add_argument(
        "--greeting",
        type=seconds,
        default=5.0,
        metavar="S",
        help="wait this long for the agent to speak first (default 5)",
    )
    parser.add_argument("--timeout", type=seconds, default=600.0, metavar="S", help="longest call (default 600)")
    parser.add_argument(
        "--calls", type=whole(1, MAX_CALLS), default=1, metavar="N", help=f"place N calls at once, to {MAX_CALLS}"
    )
    parser.add_argument("--record", metavar="FILE", help="save a stereo WAV: caller left, agent right")
    parser.add_argument("--transcribe", action="store_true", help="also write down what the agent said")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the conversation")


def _add_script(parser: argparse.ArgumentParser) -> None:
    spoken = parser.add_argument_group("what the caller does, in order (S: seconds)")
    spoken.add_argument("--say", action=_Ordered, metavar="TEXT", help="speak this line")
    spoken.add_argument("--wav", action=_Ordered, metavar="FILE", help="play this recording as a line")
    spoken.add_argument(
        "--barge-in",
        action=_Ordered,
        type=seconds,
        metavar="S",
        help="the next line interrupts, S seconds into a reply",
    )
    spoken.add_argument(
        "--backchannel", action=_Ordered, metavar="TEXT[@S]", help='murmur into the reply, for example "mm-hm@1.5"'
    )
    spoken.add_argument("--digits", action=_Ordered, metavar="KEYS", help="press keys: 0-9, * and #")
    spoken.add_argument("--wait", action=_Ordered, type=seconds, metavar="S", help="stay silent")
    spoken.add_argument("--hang-up-after", type=seconds, metavar="S", help="hang up S seconds into the last reply")


def run(args: argparse.Namespace) -> int:
    from antiphon.cli.call_placing import place
    from antiphon.cli.journal_source import fail
    from antiphon.errors import AntiphonError

    try:
        reports = place(args)
    except AntiphonError as error:
        return fail(error)
    except KeyboardInterrupt:
        print("antiphon: hung up", file=sys.stderr)
        return 130
    if any(report.ended_by == "failed" for report in reports):
        return 2
    return 0 if all(report.all_answered for report in reports) else 1
