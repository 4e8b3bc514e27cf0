"""What is done to whom: a plan of faults that its seed decides."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

STOPPED_S = (2.0, 12.0)  # also longer than Kafka waits for a silent consumer
GAP_S = 4.0  # on the average, and at random, from one fault to the next


class Action(StrEnum):
    KILL = "kill"  # SIGKILL
    STOP = "stop"  # SIGSTOP, and SIGCONT seconds later
    RESTART = "restart"  # asked to end, and started again
    FILL = "fill"  # Kafka is away until the spool takes nothing more
    DUPLICATE = "duplicate"  # records that are on the log come once more
    REORDER = "reorder"  # a later vote comes before an earlier one


A = Action
PROCESS = (A.KILL, A.STOP, A.RESTART)
TARGETS: dict[str, tuple[Action, ...]] = {
    **dict.fromkeys(("gateway", "consumer", "kafka", "postgres", "redis", "worker", "engine", "controller"), PROCESS),
    "spool": (A.FILL,),
    "events": (A.DUPLICATE, A.REORDER),
}


NEEDS = {"spool": {"kafka"}, "events": {"kafka", "postgres"}}  # what it is done with


@dataclass(frozen=True, slots=True)
class Fault:
    """`seconds` is how long a STOP lasts, `gap_s` the time from this fault to the next one."""

    action: Action
    target: str
    seconds: float
    gap_s: float

    @property
    def kind(self) -> str:
        return f"{self.action} {self.target}"

    @property
    def claims(self) -> set[str]:
        """What no other fault may have at the same time."""
        return {self.target} | NEEDS.get(self.target, set())


def plan(count: int, seed: int) -> list[Fault]:
    """Every target once before any comes again, each time with another action, in an order and at a pace that the seed
    decides."""
    return list(islice(_faults(random.Random(seed)), count))


def _faults(rng: random.Random) -> Iterator[Fault]:
    offsets = {target: rng.randrange(len(actions)) for target, actions in TARGETS.items()}
    turn = 0
    while True:
        for target in rng.sample(list(TARGETS), len(TARGETS)):
            actions = TARGETS[target]
            action = actions[(offsets[target] + turn) % len(actions)]
            seconds, gap_s = rng.uniform(*STOPPED_S), rng.expovariate(1 / GAP_S)
            yield Fault(action, target, round(seconds, 1), round(gap_s, 1))
        turn += 1
