"""What stops a regression that its gates let through, in how many votes and seconds: `make bench-aborts`.

The adapters are those that the gates are tried on (`tests.bench.planted_regressions`). The product runs with a real
engine; simulated users stream answers by HTTP and vote on what they read. Each version is blocked, as its gates would
have it, and asked for all the same: nothing starts. Then a person forces it, and it goes by the steps. What is broken
is promoted by force, past gates and steps.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import torch
from rich.progress import track

from infra.clock import now
from infra.console import err, print_table
from infra.contracts.rollouts import Inconclusive, Step, StepKind
from infra.ports import Ports
from infra.registry import tallies
from infra.registry.adapters import AdapterState
from infra.registry.rollouts import FINAL_STATES, RolloutState
from infra.registry.tallies import TallyArm
from tests.bench.abort_crowd import VOTING, Crowd, chatting, seconds
from tests.bench.abort_raters import recruit
from tests.bench.abort_versions import BETTER, CANDIDATES, Planted, plant
from tests.bench.planted_regressions import BROKEN, STOPPED_BY
from tests.goldbed.gated import Size, make_base
from tests.support.live_rollouts import failed, operator, stepped_product, told
from tests.support.product import Product
from tests.support.versions import publish_made

RESULT = Path(".thumbwheel/bench/aborts.json")
PEOPLE = 600
LOOK_S = 0.5
POLL_S = 0.05
ENDS_S = 360
STEP_S = 60
STEPS = (
    Step(kind=StepKind.SHADOW, share=0.3, min_answers=60, max_s=STEP_S, on_inconclusive=Inconclusive.ADVANCE),
    Step(share=0.05, pairs=0.5, min_votes=20, max_s=STEP_S, on_inconclusive=Inconclusive.ADVANCE),
    Step(share=0.25, pairs=0.5, min_votes=100, max_s=STEP_S, margin=0.25),
    Step(share=0.5, pairs=0.5, min_votes=400, max_s=2 * STEP_S, margin=0.1, segment_margin=0.3),
)
COLUMNS = (
    "candidate", "gate", "ended as", "stopped by", "at step", "votes", "answers", "s with users", "s after look", "s",
)  # fmt: skip
REASON = {"reason": "bench"}
PATHS = {"promote": "/rollouts:promote", "start": "/rollouts:start"}


class Stuck(Exception):
    """A rollout that neither ended nor asked a person, although each of its steps has a longest time."""


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. `gate` is the one that blocks it, and `refused` is whether a start was, as long as it did.

    `votes` are thumbs and choices on it that the deciding look knew; `answers` are requests that it answered, alone or
    as one of two. Seconds go to the last request that began on it: since the first step with users, since that look.
    `seconds` are from the wish to the end of the rollout. `findings` are what each monitor said at its last look.
    """

    candidate: str
    gate: str | None
    refused: bool | None
    ended: str
    stopped_by: list[str]
    step: str | None
    votes: int
    answers: int
    seconds_with_users: float | None
    seconds_after_look: float | None
    seconds: float
    why: str
    findings: dict[str, str]


@dataclass(frozen=True, slots=True)
class Course:
    """A rollout that has ended, as the operators' API tells it, and when each of its steps began."""

    row: dict[str, Any]
    began: dict[int, datetime]
    votes: int

    @property
    def with_users(self) -> datetime | None:
        steps = self.row["steps"]
        return next((at for step, at in sorted(self.began.items()) if steps[step]["kind"] == StepKind.CANARY), None)

    @property
    def looked_at(self) -> datetime | None:
        return datetime.fromisoformat(self.row["look"]["at"]) if self.row["look"] else None


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), options.base or Path(scratch), options.only or CANDIDATES)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result)
    return 0 if is_sound(result) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=RESULT, help="Where the figures go.")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, metavar="NAME", help=f"Of {', '.join(CANDIDATES)}.")
    parser.add_argument("--base", type=Path, help="Keep the base model there, for the next run.")
    return parser.parse_args(arguments)


def run(scratch: Path, directory: Path, candidates: Sequence[str]) -> dict[str, Any]:
    err().print("making the base model")
    model = make_base(directory, Size())
    made = plant(model, scratch / "made", candidates)
    teaching = track(made, description="teaching", total=len(candidates), console=err())
    planted = list(teaching)
    err().print("starting the product")
    with stepped_product(scratch / "home", model, STEPS, look_s=LOOK_S) as product:
        ports = product.ports()
        rows, crowd = asyncio.run(try_all(product, ports, planted))
        ports.close()
    return report(rows, crowd)


async def try_all(product: Product, ports: Ports, planted: Sequence[Planted]) -> tuple[list[Row], Crowd]:
    """One rollout after the other, under users who never pause."""
    rows = list[Row]()
    address, key = product.address, product.keys["client"]
    async with operator(product) as admin, chatting(address, key, recruit(PEOPLE, seed=0)) as crowd:
        for made in track(planted, description="rollouts", console=err()):
            rows.append(await try_one(admin, ports, crowd, made))
            err().print(" | ".join(cells(rows[-1])))
    return rows, crowd


async def try_one(admin: httpx.AsyncClient, ports: Ports, crowd: Crowd, made: Planted) -> Row:
    gate, began, refused = STOPPED_BY.get(made.candidate), now(), None
    state = AdapterState.BLOCKED if gate else AdapterState.ACCEPTED
    version = await asyncio.to_thread(publish_made, ports, made.directory, made.manifest, state)
    wish = {"version": version, **REASON}
    if gate:
        refused = (await asked(admin, PATHS["start"], wish)).status_code == httpx.codes.CONFLICT
    path = PATHS["promote" if made.candidate in BROKEN else "start"]
    started = (await asked(admin, path, {**wish, "force": True})).raise_for_status().json()
    course = await followed(admin, ports, started["rollout_id"])
    await crowd.moved_on()
    row = read(made.candidate, gate, refused, course, crowd.answers_of(version, began))
    if course.row["state"] == RolloutState.DONE:
        await taken_back(admin)
    return row


async def asked(admin: httpx.AsyncClient, path: str, wish: Mapping[str, object]) -> httpx.Response:
    """Asks again where the registry was too busy, as the answer says to."""
    while (answer := await admin.post(path, json=wish)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
        await asyncio.sleep(float(answer.headers["retry-after"]))
    return answer


async def followed(admin: httpx.AsyncClient, ports: Ports, rollout_id: str) -> Course:
    """To its end. Where a person is asked, the person says no. Raises Stuck."""
    began, path, until = dict[int, datetime](), f"/rollouts/{rollout_id}", now() + timedelta(seconds=ENDS_S)
    while (row := await told(admin, path))["state"] not in (*FINAL_STATES, RolloutState.AWAITING_PERSON):
        if row["step_began_at"]:
            began[row["step"]] = datetime.fromisoformat(row["step_began_at"])
        if now() > until:
            raise Stuck(f"{row['version']} is {row['state']} at step {row['step']} after {ENDS_S} s: {row['look']}")
        await asyncio.sleep(POLL_S)
    if row["state"] == RolloutState.AWAITING_PERSON:
        (await asked(admin, f"{path}:abort", REASON)).raise_for_status()
        row |= {"finished_at": now().isoformat()}
    return Course(row, began, await asyncio.to_thread(votes_on, ports, row))


def votes_on(ports: Ports, row: dict[str, Any]) -> int:
    """Thumbs and choices on it that the last look knew: its own step's, and those of the steps before."""
    with ports.database.reading() as session:
        found = tallies.of_rollout(session, "default", row["rollout_id"])
    earlier = [tally for tally in found if tally.step < row["step"]]
    thumbs = sum(tally.votes for tally in earlier if tally.arm is TallyArm.CHALLENGER)
    choices = sum(tally.choices for tally in earlier if tally.arm is TallyArm.PAIR)
    return thumbs + choices + (row["look"]["votes"] if row["look"] else 0)


async def taken_back(admin: httpx.AsyncClient) -> None:
    """The base serves again, and the rollback is over."""
    wish = {"version": "base", "force": True, **REASON}
    back = (await asked(admin, "/rollouts:rollback", wish)).raise_for_status().json()
    async with asyncio.timeout(ENDS_S):
        while (await told(admin, f"/rollouts/{back['rollout_id']}"))["state"] != RolloutState.DONE:
            await asyncio.sleep(POLL_S)


def read(candidate: str, gate: str | None, refused: bool | None, course: Course, answered: Sequence[datetime]) -> Row:
    """`answered` are the times at which the requests began that it answered."""
    row, aborted = course.row, course.row["state"] == RolloutState.ABORTED
    last = max(answered, default=None) if aborted else None
    return Row(
        candidate=candidate,
        gate=gate,
        refused=refused,
        ended=row["state"],
        stopped_by=sorted(failed(row)) if aborted else [],
        step=Step.model_validate(row["steps"][row["step"]]).title if row["steps"] else None,
        votes=course.votes,
        answers=len(answered),
        seconds_with_users=seconds(last - course.with_users) if last and course.with_users else None,
        seconds_after_look=max(0.0, seconds(last - course.looked_at)) if last and course.looked_at else None,
        seconds=seconds(datetime.fromisoformat(row["finished_at"]) - datetime.fromisoformat(row["requested_at"])),
        why=row["error"] or (row["look"] or {}).get("reason", ""),
        findings={finding["name"]: finding["reason"] for finding in (row["look"] or {"findings": []})["findings"]},
    )


def report(rows: Sequence[Row], crowd: Crowd) -> dict[str, Any]:
    return {
        "steps": [step.model_dump(mode="json") for step in STEPS],
        "raters": PEOPLE,
        "voting": VOTING,
        "look_s": LOOK_S,
        "requests": len(crowd.asked),
        "votes": dict(crowd.votes),
        "errors": crowd.errors,
        "rollouts": [asdict(row) for row in rows],
    }


def is_sound(result: dict[str, Any]) -> bool:
    """Nobody met an error, nothing that was blocked started, nothing broken answered, and what is better came through.

    What else comes through is a finding, and no fault of the benchmark.
    """
    rows = [Row(**row) for row in result["rollouts"]]
    return (
        not result["errors"]
        and all(row.refused is not False for row in rows)
        and all(row.answers == 0 and row.ended == RolloutState.FAILED for row in rows if row.candidate in BROKEN)
        and all(row.ended == RolloutState.DONE for row in rows if row.candidate == BETTER)
    )


def show(result: dict[str, Any]) -> None:
    print_table(COLUMNS, [cells(Row(**row)) for row in result["rollouts"]], title="rollouts of what gates would stop")


def cells(row: Row) -> list[str]:
    times = (row.seconds_with_users, row.seconds_after_look, row.seconds)
    return [
        row.candidate, row.gate or "", row.ended, ", ".join(row.stopped_by) or row.why[:60], row.step or "",
        str(row.votes), str(row.answers), *("" if at is None else f"{at:.1f}" for at in times),
    ]  # fmt: skip


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
