"""Which gate stops which regression: `python -m tests.bench.planted_regressions --json FILE`, in some minutes.

Every candidate is a real adapter that goes through the product's evaluation and gates, with default thresholds.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from infra.contracts.manifests import GateReport, Verdict
from tests.goldbed.gated import House, opened
from tests.goldbed.planted import REGRESSIONS, careful, improving, unchanged
from tests.support.adapters import Spoil, change_weights, tamper, with_nan, with_wrong_shape

BROKEN: dict[str, tuple[Spoil, bool]] = {  # and whether its manifest was written afterwards
    "broken: not a number": (change_weights(with_nan), True),
    "broken: wrong shape": (change_weights(with_wrong_shape), True),
    "broken: tampered with": (tamper, False),
}
HEAD = "| candidate | verdict | stopped by | undecided | advice against | judge's win rate |"


@dataclass(frozen=True, slots=True)
class Row:
    """One candidate. `fails` and `undecided` are blocking gates; `advice` are advisory ones that failed."""

    candidate: str
    verdict: str
    fails: list[str]
    undecided: list[str]
    advice: list[str]
    why: str
    judge: float | None
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="Write the table there.")
    parser.add_argument("--out", type=Path, help="Keep base and files there, for the next run.")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, opened(wanted.out or Path(scratch)) as house:
        rows = list(run(house))
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.stdout.write(table(rows) + "\n")


def run(house: House) -> Iterator[Row]:
    """The regressions, then what is broken, then what is not worse."""
    for name, teach in REGRESSIONS.items():
        house.teach(teach(house.asked, random.Random(name)))
        yield _row(name, house)
    house.teach([])
    yield _row("no change", house)
    for name, (spoil, resign) in BROKEN.items():
        yield _row(name, house, spoil, resign=resign)
    house.teach(careful(unchanged)(house.asked, random.Random(0)))
    yield _row("no better: its own answers", house)
    house.teach(careful(improving)(house.asked, random.Random(0)))
    yield _row("better: taught", house)
    house.learn()
    yield _row("better: learnt from votes", house)


def table(rows: Sequence[Row]) -> str:
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [", ".join(f"`{name}`" for name in names) for names in (row.fails, row.undecided, row.advice)]
        judge = "" if row.judge is None else f"{row.judge:.2f}"
        lines.append(f"| {row.candidate} | {row.verdict} | {' | '.join(cells)} | {judge} |")
    return "\n".join(lines)


def _row(name: str, house: House, spoil: Spoil | None = None, *, resign: bool = True) -> Row:
    began = time.monotonic()
    report = house.gates(spoil, resign=resign)
    row = read(name, report, round(time.monotonic() - began, 1))
    sys.stderr.write(f"{row}\n")
    return row


def read(name: str, report: GateReport, seconds: float) -> Row:
    named = {result.name: result for result in report.gates}
    blocking = [result for result in report.gates if result.blocking]
    fails = [result for result in blocking if result.verdict is Verdict.FAIL]
    judged = named["judge"].interval
    return Row(
        candidate=name,
        verdict=report.verdict,
        fails=[result.name for result in fails],
        undecided=[result.name for result in blocking if result.verdict is Verdict.INCONCLUSIVE],
        advice=[result.name for result in report.gates if not result.blocking and result.verdict is Verdict.FAIL],
        why="; ".join(f"{result.name}: {result.reason}" for result in fails),
        judge=judged.value if judged else None,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
