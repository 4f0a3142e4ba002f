"""``antiphon token SESSION``: a token for one session, signed with the server's secret, for scripts and for trials."""

from __future__ import annotations

import argparse

HELP = "make a token for one session"
EXAMPLES = (
    ("antiphon token test_001", "for /orchestrate?session_id=test_001"),
    ("antiphon token test_001 --config server.toml", "with another server's lifetime"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Makes a token that opens one session, its view, timeline and replay, for server.token_ttl_s seconds. It is "
        "signed with ANTIPHON_SERVER_TOKEN_SECRET, which must be the server's. Programs ask POST /sessions instead."
    )
    parser.add_argument("session", help="the session's id; it need not be there yet")
    parser.add_argument("--config", metavar="FILE", help="the settings file (else antiphon.toml here, if there is one)")


def run(args: argparse.Namespace) -> int:
    from antiphon import config
    from antiphon.errors import ConfigError
    from antiphon.runtime.ports import CALL_ID
    from antiphon.secret import listed
    from antiphon.server.tokens import SessionTokens

    if not CALL_ID.fullmatch(args.session):
        raise ConfigError(f"a session id is 1 to 255 of A-Z a-z 0-9 _ . : -, not {args.session[:80]!r}")
    server = config.load(args.config).server
    if not server.token_secret:
        raise ConfigError(
            "ANTIPHON_SERVER_TOKEN_SECRET is not set: a server without one signs with a key that nobody else knows; "
            "`antiphon keys new` makes one"
        )
    print(SessionTokens(listed(server.token_secret), ttl_s=server.token_ttl_s).issue(args.session))
    return 0
