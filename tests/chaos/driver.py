"""Strikes the whole product again and again while clients chat and vote, then holds their books against the store.

`make chaos FAULTS=100 SEED=1`, or `python -m tests.chaos.driver`. Everything runs on this machine, on free ports in
a temporary directory; its logs stay in `.thumbwheel/chaos/logs`. Exit code 1 where a vote or an answer was lost, a
vote counted twice, or a question left unanswered without a fault of the engine or the only gateway.
"""

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.audit import Verdict, compare, hold
from tests.chaos.books import Books, Window, struck
from tests.chaos.crowd import crowd
from tests.chaos.faults import Action, Fault, plan
from tests.chaos.stage import LOOK_S, Stage, open_stage, wait_until
from tests.chaos.strikes import Striker
from tests.chaos.victims import Victim
from tests.support.tiny_model import make_tiny_model

DIRECTORY = Path(".thumbwheel/chaos")
REPORT = "report.json"
WARM_UP_VOTES = 20
HEAL_TIMEOUT_S = 300.0
QUIET_TIMEOUT_S = 180.0
MOST_AT_ONCE = 3  # faults that are not over, or not healed yet
BETWEEN = {"engine", "gateway"}  # who stands between a question and its answer: only their faults may cost a request
MOST_FINDINGS = 30
Tell = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Report:
    """`chat_failed` is by whose faults the failed requests met, "" being none; those that met one of the engine or of
    the only gateway are not `chat_failed_outside_engine_faults`. Recoveries are 95th percentiles, from the end of what
    was done until whoever was struck is ready and a vote cast since is stored, whatever else was struck meanwhile."""

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
        return (self.lost, self.doubled, self.answers_lost, self.chat_failed_outside_engine_faults) == (0, 0, 0, 0)


@dataclass
class Run:
    """One run's notes. Each fault has a thread of its own, which strikes and then watches until all is well."""

    stage: Stage
    books: Books
    tell: Tell
    count: int
    windows: list[Window] = field(default_factory=list)
    recoveries: dict[str, list[float]] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    failed: threading.Event = field(default_factory=threading.Event)
    notes: threading.Lock = field(default_factory=threading.Lock)

    def suffer(self, faults: Sequence[tuple[Fault, Striker]], pool: ThreadPoolExecutor) -> None:
        """The next one begins a while after the last one, healed or not, unless it needs what another one struck.

        Raises what a fault's thread has raised.
        """
        self._wait_for_votes(WARM_UP_VOTES)
        under_way: dict[Future[None], Fault] = {}
        for fault, striker in faults:
            while not self._has_room(fault, under_way):
                time.sleep(LOOK_S)
            under_way[pool.submit(self._suffer, fault, striker)] = fault
            time.sleep(fault.gap_s)  # what is waited for is the time itself
        for future in under_way:
            future.result()

    def report(self, seed: int, verdict: Verdict) -> Report:
        met = [(chat, struck(chat, self.windows)) for chat in self.books.failed]
        outside = [(chat, targets) for chat, targets in met if BETWEEN.isdisjoint(targets)]
        findings = verdict.findings + [f"{chat.problem} (met {_named(targets)})" for chat, targets in outside]
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
            chat_failed_outside_engine_faults=len(outside),
            chat_failed=dict(Counter("+".join(sorted(targets)) for _, targets in met)),
            recovery_s={kind: p95(seconds) for kind, seconds in sorted(self.recoveries.items())},
            seconds=round(time.monotonic() - self.began, 1),
            findings=findings[:MOST_FINDINGS],
        )

    def _has_room(self, fault: Fault, under_way: "dict[Future[None], Fault]") -> bool:
        for future in [future for future in under_way if future.done()]:
            del under_way[future]
            future.result()
        claimed = {part for other in under_way.values() for part in other.claims}
        return len(under_way) < MOST_AT_ONCE and claimed.isdisjoint(fault.claims)

    def _suffer(self, fault: Fault, striker: Striker) -> None:
        try:
            self._strike(fault, striker)
        except BaseException:
            self.failed.set()
            raise

    def _strike(self, fault: Fault, striker: Striker) -> None:
        victim = striker.victim(fault)
        starts = victim.starts() if victim else 0
        window = Window(fault.target, time.monotonic())
        with self.notes:
            self.windows.append(window)
        over = striker.strike(fault, victim)

        def is_well() -> bool:
            return self.failed.is_set() or self._is_well(fault, victim, starts, over)

        wait_until(is_well, timeout_s=HEAL_TIMEOUT_S, what=f"all is well again after {fault.kind}")
        window.ended = time.monotonic()
        with self.notes:
            self._note(fault, window.ended - over)

    def _is_well(self, fault: Fault, victim: Victim | None, starts: int, since: float) -> bool:
        if victim is not None:
            supervised = fault.target in self.stage.rooms and fault.action in (Action.KILL, Action.RESTART)
            if victim.starts() < starts + supervised or not victim.is_ready():
                return False
        answers = fault.target not in BETWEEN or self.books.answered_since(since)
        return answers and self.stage.takes_votes(self.books, since)

    def _note(self, fault: Fault, seconds: float) -> None:
        self.recoveries.setdefault(fault.kind, []).append(seconds)
        done = sum(len(found) for found in self.recoveries.values())
        left = (time.monotonic() - self.began) / done * (self.count - done)
        votes, refused = len(self.books.casts), len(self.books.refused)
        self.tell(
            f"{done:>4}/{self.count}  {fault.kind:<20} well again after {seconds:5.1f} s   {votes:>6} votes,"
            f" {refused} times 503   about {left / 60:.0f} min left"
        )

    def _wait_for_votes(self, more: int) -> None:
        goal = len(self.books.casts) + more
        wait_until(lambda: len(self.books.casts) >= goal, timeout_s=HEAL_TIMEOUT_S, what=f"{more} more votes")


def drive(home: Path, model: Path, *, faults: int, seed: int, tell: Tell) -> Report:
    """`home` is emptied first. Raises NotHealed where the stack does not come back, Refused where a vote is refused
    without cause.

    The pool is the last to go: servers that a fault's thread has started end with that thread.
    """
    with ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="fault") as pool, open_stage(home, model) as stage:
        books = Books()
        run = Run(stage, books, tell, faults)
        with crowd(stage.product, books, seed) as clients:
            planned = [
                (fault, Striker(stage, clients, random.Random(f"{seed} {number}")))
                for number, fault in enumerate(plan(faults, seed))
            ]
            run.suffer(planned, pool)
        wait_until(stage.is_quiet, timeout_s=QUIET_TIMEOUT_S, what="everything that was acknowledged is consumed")
        return run.report(seed, compare(books, hold(stage.ports), run.windows))


def _named(targets: set[str]) -> str:
    return ", ".join(sorted(targets)) or "no fault"


def p95(seconds: Sequence[float]) -> float:
    """The nearest rank."""
    return round(sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1], 1)


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(report), indent=1) + "\n")


def keep_logs(source: Path, target: Path) -> None:
    """In the place of those of the last run."""
    shutil.rmtree(target, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = DIRECTORY.absolute()
    with tempfile.TemporaryDirectory(prefix="thumbwheel-chaos-") as scratch:
        home = Path(scratch)
        home.chmod(0o711)  # PostgreSQL may run as another user, who has to reach its own directory
        try:
            base = make_tiny_model(home / "base")
            report = drive(home / "stack", base, faults=options.faults, seed=options.seed, tell=say)
        finally:
            keep_logs(home / "stack" / "logs", directory / "logs")
    write(report, directory / REPORT)
    say(json.dumps(asdict(report), indent=1))
    return 0 if report.is_clean else 1


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
