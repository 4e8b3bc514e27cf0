"""What is done to whom: a plan of faults that its seed decides."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice

STOPPED_S = (2.0, 12.0)  # also longer than Kafka waits for a silent consumer


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


@dataclass(frozen=True, slots=True)
class Fault:
    """`seconds` is how long a STOP lasts."""

    action: Action
    target: str
    seconds: float

    @property
    def kind(self) -> str:
        return f"{self.action} {self.target}"


def plan(count: int, seed: int) -> list[Fault]:
    """Every target once before any comes again, each time with another action, in an order that the seed decides."""
    return list(islice(_faults(random.Random(seed)), count))


def _faults(rng: random.Random) -> Iterator[Fault]:
    offsets = {target: rng.randrange(len(actions)) for target, actions in TARGETS.items()}
    turn = 0
    while True:
        for target in rng.sample(list(TARGETS), len(TARGETS)):
            actions = TARGETS[target]
            action = actions[(offsets[target] + turn) % len(actions)]
            yield Fault(action, target, round(rng.uniform(*STOPPED_S), 1))
        turn += 1
