"""What ``/health`` looks at besides the process: the stages, the services behind them, the carrier's account (A71)."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from antiphon.config import TwilioSettings
from antiphon.errors import AntiphonError
from antiphon.runtime.chain import Chain
from antiphon.runtime.ports import Journal
from antiphon.runtime.stages import Stages
from antiphon.server.health import HealthCheck
from antiphon.transports.twilio_rest import TWILIO_API, TwilioAccount

KEEP_S = 30.0
"""How long an answer of a service on the network counts: being asked for health must not cost a quota."""
ANSWER_S = 1.8
"""How long a service may take: less than a health check may, so that what did not answer is known to have not."""

log = logging.getLogger("antiphon.server.checks")


def stage_checks(stages: Stages) -> dict[str, HealthCheck]:
    """A stage is well while one of its providers may be asked."""
    chains: tuple[Chain[Any], ...] = (stages.stt, stages.llm, stages.tts)
    return {chain.stage: _is_served(chain) for chain in chains}


def _is_served(chain: Chain[Any]) -> HealthCheck:
    async def check() -> bool:
        return any(member.breaker.would_admit for member in chain.members)

    return check


def service_checks(stages: Stages, *, clock: Callable[[], float] = time.monotonic) -> dict[str, HealthCheck]:
    """One for each service on the network that a provider can ask how it is, by the service's name.

    A provider has ``async check()`` for that, which raises where something is wrong, and may have ``service``, the
    name of what it stands on where that is not its own. Of those with the same service the first is asked.
    """
    found: dict[str, HealthCheck] = {}
    chains: tuple[Chain[Any], ...] = (stages.stt, stages.intent, stages.retrieval, stages.llm, stages.tts)
    for member in (each for chain in chains for each in chain.members):
        check = getattr(member.provider, "check", None)
        service = getattr(member.provider, "service", member.name)
        if callable(check) and service not in found:
            found[service] = kept(service, _answers(check), clock=clock)
    return found


def journal_checks(journal: Journal) -> dict[str, HealthCheck]:
    """A journal on a server is asked whether it answers, under the server's name (``redis``: B14)."""
    check = getattr(journal, "check", None)
    return {getattr(journal, "service", "store"): _answers(check)} if callable(check) else {}


def _answers(check: Callable[[], Any]) -> HealthCheck:
    async def asked() -> bool:
        await check()
        return True

    return asked


def kept(
    name: str,
    check: HealthCheck,
    *,
    keep_s: float = KEEP_S,
    answer_s: float = ANSWER_S,
    clock: Callable[[], float] = time.monotonic,
) -> HealthCheck:
    """The same, within ``answer_s``, and asked again only when its last answer is ``keep_s`` old, a bad one too.

    A failure is logged once for each time it was asked.
    """
    known: list[tuple[float, bool]] = []

    async def cheap() -> bool:
        if known and clock() < known[0][0]:
            return known[0][1]
        answer = False
        try:
            async with asyncio.timeout(answer_s):
                answer = await check()
            if not answer:
                log.warning("%s is not well", name)
        except TimeoutError:
            log.warning("%s did not answer in %s s", name, answer_s)
        except AntiphonError as error:
            log.warning("%s is not well: %s", name, error.code)
        except Exception as error:  # noqa: BLE001 - a check may fail in any way; its text may quote a key
            log.warning("%s cannot be asked: %s", name, type(error).__name__)
        known[:] = [(clock() + keep_s, answer)]
        return answer

    return cheap


def carrier_check(
    settings: TwilioSettings, base_url: str = TWILIO_API, *, answer_s: float = ANSWER_S
) -> Mapping[str, HealthCheck]:
    """``twilio``: the account can be fetched with its token and is active. Without an account nothing is amiss."""
    account = TwilioAccount(settings.account_sid, settings.auth_token, base_url)
    if not account.is_set:

        async def nothing_to_ask() -> bool:
            return True

        return {"twilio": nothing_to_ask}

    async def asked() -> bool:
        found = await asyncio.to_thread(account.look, timeout_s=answer_s)
        return found.status == 200 and found.body.get("status") == "active"

    return {"twilio": kept("twilio", asked, answer_s=answer_s)}
