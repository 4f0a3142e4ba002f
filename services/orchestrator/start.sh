#!/bin/sh
# The command of the container: the orchestrator, on every address that the container has.
# Whoever publishes its port to the world must not thereby open it to the world. So where nothing says who may ask (an
# API key, Twilio's token, a file of secrets or of settings, or that it may be open), a key is made for this run; it
# stands in the container's log, which its owner reads.
set -eu

if [ -z "${ANTIPHON_SERVER_API_KEYS:-}${TWILIO_AUTH_TOKEN:-}${ANTIPHON_SECRETS_FILE:-}${ANTIPHON_SERVER_ALLOW_OPEN:-}" ] &&
    [ -z "${ANTIPHON_CONFIG:-}" ] && [ ! -e antiphon.toml ]; then
    made=$(antiphon keys new --json)
    ANTIPHON_SERVER_API_KEYS=$(printf '%s' "$made" | python -c 'import json, sys; print(json.load(sys.stdin)["api_key_hash"])')
    export ANTIPHON_SERVER_API_KEYS
    printf '%s' "$made" | python -c 'import json, sys; print("no API key was given; that of this run is", json.load(sys.stdin)["api_key"])' >&2
    unset made
fi

exec antiphon serve --host 0.0.0.0 "$@"
