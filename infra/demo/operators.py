"""What an operator sees and does: `/admin/v1` to look, the commands to act."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx

from infra.contracts.rollouts import Step
from infra.demo.shell import Shell
from infra.demo.stack import Addresses
from infra.registry.cycles import FINAL_STATES, CycleState
from infra.registry.rollouts import FINAL_STATES as FINAL_ROLLOUT_STATES

LOOK_EVERY_S = 0.25
NEAR_A_SWAP = frozenset({CycleState.PUBLISHING, CycleState.GATING, *FINAL_STATES})


OnLook = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step of a rollout: the votes on the new version in it, and how many seconds it lasted."""

    title: str
    votes: int
    seconds: float


class CycleTookTooLong(TimeoutError):
    """A cycle had not ended in the time that the plan gives it."""


VOTES = re.compile(r"^thumbwheel_feedback_votes (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Operator:
    """Reads over HTTP with the admin key and acts through the commands, so that everything done is audited."""

    shell: Shell
    http: httpx.AsyncClient
    feedback: str = ""  # address of the process whose /metrics say how many votes are stored

    async def get(self, path: str, **query: str) -> Any:
        response = await self.http.get(f"/admin/v1/{path}", params=query)
        return response.raise_for_status().json()

    async def listed(self, noun: str) -> list[dict[str, Any]]:
        """Newest first."""
        found = await self.get(noun)
        return list(found["data"])

    async def run_cycle(self, on_look: OnLook, timeout_s: float) -> dict[str, Any]:
        """Triggers a cycle and looks at it until it has ended; raises CycleTookTooLong."""
        triggered = await self.shell.json("cycle", "trigger", "--reason", "the demo's raters have voted")
        async with asyncio.timeout(timeout_s) as clock:
            while not clock.expired():
                cycle: dict[str, Any] = await self.get(f"cycles/{triggered['cycle_id']}")
                on_look(cycle)
                if cycle["state"] in FINAL_STATES:
                    return cycle
                await asyncio.sleep(LOOK_EVERY_S)
        raise CycleTookTooLong(triggered["cycle_id"])

    async def votes_stored(self, expected: int, patience_s: float) -> int:
        """How many votes the store holds, once it holds as many as expected or the patience has run out."""
        for _ in range(int(patience_s / LOOK_EVERY_S)):
            if await self._votes() >= expected:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return await self._votes()

    async def _votes(self) -> int:
        response = await self.http.get(f"{self.feedback}/metrics")
        found = VOTES.search(response.raise_for_status().text)
        return int(float(found.group(1))) if found else 0

    async def rollout_of(
        self, version: str, since: datetime, patience_s: float, on_look: OnLook | None = None
    ) -> dict[str, Any] | None:
        """The finished rollout to `version` requested after `since`; None where none has ended in time."""
        for _ in range(int(patience_s / LOOK_EVERY_S)):
            for rollout in await self.listed("rollouts"):
                requested = datetime.fromisoformat(rollout["requested_at"])
                if rollout["version"] != version or requested < since:
                    continue
                if on_look:
                    on_look(rollout)
                if rollout["state"] in FINAL_ROLLOUT_STATES:
                    return rollout
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def steps_of(self, rollout: dict[str, Any]) -> list[StepTaken]:
        """What each step of a finished rollout had seen when it was left, the first one first."""
        found = (await self.get("audit", subject=rollout["version"]))["data"]
        notes = [note for note in found if note["after"].get("rollout_id") == rollout["rollout_id"]]
        moves = sorted((note for note in notes if "step" in note["before"]), key=lambda note: str(note["at"]))
        return [_step_taken(rollout["steps"], began, left) for began, left in pairwise(moves)]


def _step_taken(steps: Sequence[Mapping[str, Any]], began: Mapping[str, Any], left: Mapping[str, Any]) -> StepTaken:
    """Of the audit's notes from when it was entered and when it was left."""
    entered_at, left_at = (datetime.fromisoformat(note["at"]) for note in (began, left))
    seen = left["before"]
    title = Step.model_validate(steps[seen["step"]]).title
    return StepTaken(title, seen.get("votes", 0), round((left_at - entered_at).total_seconds(), 1))


@asynccontextmanager
async def operating(shell: Shell, addresses: Addresses, key: str) -> AsyncIterator[Operator]:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=addresses.gateway, headers=headers, timeout=30) as http:
        yield Operator(shell, http, addresses.feedback)
