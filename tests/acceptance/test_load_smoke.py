"""Ten callers at once, as ``antiphon call --calls 10`` places them."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from served import FAKE, Server, ended


def test_ten_calls_at_once_are_all_answered(tmp_path: Path) -> None:
    async def story() -> None:
        reply = {"llm": {"provider": "fake", "reply": "You need at least sixty percent in class twelve."}}
        with ended(server := Server(tmp_path, {**FAKE, **reply, "policy": {"greeting": False}})):
            await server.start()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "antiphon", "call", "--json", "--calls", "10", "--call-id", "CAten"),
                *("--url", server.line, "--greeting", "0", "--say", "What are the admission requirements?"),
                stdout=asyncio.subprocess.PIPE,
                cwd=tmp_path,
            )
            out, _ = await asyncio.wait_for(process.communicate(), 90)
            found = json.loads(out)
            print(found["latency_ms"])
            assert process.returncode == 0
            assert len(found["calls"]) == 10
            assert all(each["all_answered"] for each in found["calls"])
            assert all(each["turns"][1]["longest_gap_ms"] < 200 for each in found["calls"])
            assert found["latency_ms"]["p99"] < 1500
            rows = json.loads(await server.command("calls", "--json"))
            assert {row["session"] for row in rows} == {f"CAten-{number}" for number in range(1, 11)}
            assert "10 of 10 calls identical" in await server.command("replay", "--all")

    asyncio.run(story())
