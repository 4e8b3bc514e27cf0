"""Which processes make up the stack on one machine, and how each is started, asked and stopped.

Rooms are named as programs to run, never imported: they meet only through what design.md lists.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from infra.settings import Settings


class StopStage(IntEnum):
    """Who is stopped first: no new answers, then no new work, and the engine when nobody needs it any more."""

    GATEWAY = 0
    WORKERS = 1
    ENGINE = 2


@dataclass(frozen=True, slots=True)
class Program:
    """One process. `ready_path` is asked at the address it announces; after `drain_s` it is killed."""

    name: str
    argv: tuple[str, ...]
    stage: StopStage = StopStage.WORKERS
    ready_path: str = "/readyz"
    drain_s: float = 15
    usual_start_s: float = 4
    environment: Mapping[str, str] = field(default_factory=dict)


def programs(settings: Settings) -> list[Program]:
    """In the order in which they are started: the slowest first."""
    first_next = settings.serving.replicas
    return [
        *(_replica(number) for number in range(first_next)),
        *(_replica(first_next + number, "--next") for number in range(settings.serving.next_replicas)),
        Program("gateway", _module("gateway.main"), StopStage.GATEWAY, drain_s=30),
        *(_consumer(number) for number in range(settings.feedback.processes)),
        Program("trainer", _module("trainer.worker")),
        Program("controller", _module("serving.main")),
    ]


def _replica(number: int, *options: str) -> Program:
    """An engine announces itself before it becomes vLLM, whose own route says when it answers."""
    name = f"replica-{number}"
    argv = _module("serving.replica", "--name", name, *options)
    return Program(name, argv, StopStage.ENGINE, ready_path="/health", usual_start_s=45)


def _consumer(number: int) -> Program:
    """The first one bears the room's name alone."""
    name = f"feedback-{number}" if number else "feedback"
    return Program(name, _module("feedback.main", "--name", name))


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", name, *arguments)
