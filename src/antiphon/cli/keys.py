"""``antiphon keys new``: makes what a server beyond this machine needs to tell who asks."""

from __future__ import annotations

import argparse
import json

HELP = "make an API key and the key that signs session tokens"
EXAMPLES = (
    ("antiphon keys new", "both, and where to put them"),
    ("antiphon keys new --json | jq -r .api_key", "for a script"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes an API key and the key that signs session tokens, at random, and says where to put them. Nothing is "
        "written or sent. The server need not know the API key itself: its hash is enough."
    )
    parser.add_argument("what", choices=("new",), help="new: make them")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    from antiphon.secret import FILE_VARIABLE
    from antiphon.server.api_keys import hashed, new_key
    from antiphon.server.tokens import new_secret

    key, secret = new_key(), new_secret()
    if args.json:
        print(json.dumps({"api_key": key, "api_key_hash": hashed(key), "token_secret": secret}))
        return 0
    print(
        f"""\
API key, for the programs that may begin and read sessions; it is shown this once:
  {key}

For every server, in the environment or in the file that {FILE_VARIABLE} names (chmod 600):
  ANTIPHON_SERVER_API_KEYS={hashed(key)}
  ANTIPHON_SERVER_TOKEN_SECRET={secret}

Both take several values with commas between. To change one: put the new one first, restart, give it to whoever
uses it, then take the old one out and restart. The first token secret signs; the others are still accepted."""
    )
    return 0
