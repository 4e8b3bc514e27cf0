"""How far a stage is, for the registry and the terminal; also where a wish to cancel is noticed."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infra.database.engine import Database
from infra.registry import cycles
from infra.registry.leases import Lease
from trainer.errors import CancelRequested
from trainer.sinks import NOWHERE, Sink

Progress = Callable[[int, int, dict[str, float]], None]  # step, total, metrics under TRL's names

EVERY_S = 0.5  # each report is a durable write


def silent(step: int, total: int, metrics: dict[str, float]) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """One series of steps: each goes to `report`, and what was measured in it to the sink."""

    report: Progress
    sink: Sink = NOWHERE

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        if metrics:
            self.sink.write(step, metrics)
        self.report(step, total, metrics)

    def part(self, name: str) -> "StageProgress":
        """A series of its own, its metrics prefixed: for a stage that trains two things one after the other."""

        def report(step: int, total: int, metrics: dict[str, float]) -> None:
            self.report(step, total, {f"{name}/{key}": value for key, value in metrics.items()})

        return StageProgress(report, self.sink.part(name))


@dataclass
class RegistryProgress:
    """Writes at most every `every_s`, but always the last step. Raises LeaseLost or CancelRequested."""

    database: Database
    lease: Lease
    cycle_id: str
    stage: str
    every_s: float = EVERY_S
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _written: float | None = field(init=False, default=None)
    _metrics: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        at = self.clock()
        self._metrics |= metrics
        if step < total and self._written is not None and at - self._written < self.every_s:
            return
        self._written = at
        self._write(step, total, eta_s(at - self._began, step, total))

    def _write(self, step: int, total: int, eta: float | None) -> None:
        progress: dict[str, Any] = {"stage": self.stage, "step": step, "total": total, "eta_s": eta}
        with self.database.transaction() as session:
            cancel = cycles.report_progress(
                session, self.lease, self.cycle_id, {**progress, "metrics": dict(self._metrics)}
            )
        if cancel:
            raise CancelRequested(f"cycle {self.cycle_id} is to be cancelled")


def eta_s(elapsed: float, step: int, total: int) -> float | None:
    """Seconds left at the mean pace so far; None before the first step."""
    return round(elapsed / step * (total - step), 1) if step > 0 else None
