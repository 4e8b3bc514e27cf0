"""Strikes the whole product again and again while clients chat and vote, then holds their books against the store.

`make chaos FAULTS=100 SEED=1`, or `python -m tests.chaos.driver`. Everything runs on this machine, on free ports, in
`.thumbwheel/chaos/stack`, where the logs stay. Exit code 1 where a vote was lost or counted twice.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.audit import Verdict, compare, hold
from tests.chaos.books import Books, Window, struck
from tests.chaos.crowd import crowd
from tests.chaos.faults import Action, Fault, plan
from tests.chaos.stage import Stage, open_stage, wait_until
from tests.chaos.strikes import Striker
from tests.support.tiny_model import make_tiny_model

DIRECTORY = Path(".thumbwheel/chaos")
REPORT = "report.json"
WARM_UP_VOTES = 20
HEAL_TIMEOUT_S = 300.0
QUIET_TIMEOUT_S = 180.0
ENGINE, GATEWAY = "engine", "gateway"  # whoever stands between a question and its answer
Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Report:
    """`chat_failed` is by whose faults the failed requests met; "" is none. Recoveries are 95th percentiles, from the
    end of what was done to the stack until a vote cast after it was stored and every process ready."""

    seed: int
    faults: dict[str, int]
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    answers_lost: int
    refused_503: int
    chat_requests: int
    chat_failed_outside_engine_faults: int
    chat_failed: dict[str, int]
    recovery_s: dict[str, float]
    seconds: float
    findings: list[str]

    @property
    def is_clean(self) -> bool:
        return self.lost == 0 and self.doubled == 0


@dataclass
class Run:
    """One run's notes."""

    stage: Stage
    books: Books
    tell: Tell
    windows: list[Window] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def suffer(self, faults: Sequence[Fault], striker: Striker) -> None:
        """One after the other: none begins before all is well again after the last one."""
        self._wait_for_votes(WARM_UP_VOTES)
        began = time.monotonic()
        for done, fault in enumerate(faults, start=1):
            seconds = self._suffer(fault, striker)
            left = (time.monotonic() - began) / done * (len(faults) - done)
            votes, refused = len(self.books.casts), len(self.books.refused)
            self.tell(
                f"{done:>4}/{len(faults)}  {fault.kind:<20} well again after {seconds:5.1f} s   {votes:>6} votes,"
                f" {refused} times 503   about {left / 60:.0f} min left"
            )

    def report(self, seed: int, verdict: Verdict) -> Report:
        failed = Counter("+".join(sorted(struck(chat, self.windows))) for chat in self.books.failed)
        engine = sum(count for targets, count in failed.items() if ENGINE in targets.split("+"))
        return Report(
            seed=seed,
            faults={kind: len(seconds) for kind, seconds in sorted(self.recoveries.items())},
            acknowledged=verdict.acknowledged,
            stored=verdict.stored,
            lost=verdict.lost,
            doubled=verdict.doubled,
            answers_lost=verdict.answers_lost,
            refused_503=len(self.books.refused),
            chat_requests=len(self.books.chats),
            chat_failed_outside_engine_faults=failed.total() - engine,
            chat_failed=dict(failed),
            recovery_s={kind: p95(seconds) for kind, seconds in sorted(self.recoveries.items())},
            seconds=round(time.monotonic() - self.began, 1),
            findings=verdict.findings,
        )

    def _suffer(self, fault: Fault, striker: Striker) -> float:
        window = Window(fault.target, time.monotonic())
        self.windows.append(window)
        before = self._restarts()
        over = striker.strike(fault)
        wanted = before + (fault.action in (Action.KILL, Action.RESTART) and fault.target not in self._servers())

        def is_well() -> bool:
            return self._restarts() >= wanted and self.stage.is_well(self.books, over)

        wait_until(is_well, timeout_s=HEAL_TIMEOUT_S, what=f"all is well again after {fault.kind}")
        window.ended = time.monotonic()
        self.recoveries.setdefault(fault.kind, []).append(window.ended - over)
        return window.ended - over

    def _wait_for_votes(self, more: int) -> None:
        goal = len(self.books.casts) + more
        wait_until(lambda: len(self.books.casts) >= goal, timeout_s=HEAL_TIMEOUT_S, what=f"{more} more votes")

    def _restarts(self) -> int:
        return sum(process["restarts"] for process in self.stage.product.processes().values())

    def _servers(self) -> set[str]:
        return {service.name for service in self.stage.services}


def drive(home: Path, model: Path, *, faults: int, seed: int, tell: Tell) -> Report:
    """`home` is emptied first. Raises NotHealed where the stack does not come back, Refused where a vote is refused
    without cause."""
    with open_stage(home, model) as stage:
        books = Books()
        run = Run(stage, books, tell)
        with crowd(stage.product, books, seed) as clients:
            run.suffer(plan(faults, seed), Striker(stage, clients, random.Random(seed)))
        wait_until(stage.is_quiet, timeout_s=QUIET_TIMEOUT_S, what="everything that was acknowledged is consumed")
        return run.report(seed, compare(books, hold(stage.ports), run.windows))


def p95(seconds: Sequence[float]) -> float:
    """The nearest rank."""
    return round(sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1], 1)


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(report), indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = DIRECTORY.absolute()
    with tempfile.TemporaryDirectory() as model:
        base = make_tiny_model(Path(model) / "base")
        report = drive(directory / "stack", base, faults=options.faults, seed=options.seed, tell=say)
    write(report, directory / REPORT)
    say(json.dumps(asdict(report), indent=1))
    return 0 if report.is_clean else 1


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
