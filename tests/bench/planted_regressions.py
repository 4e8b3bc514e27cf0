"""Which gate stops which regression: `python -m tests.bench.planted_regressions --json FILE`, in some minutes.

Every candidate is a real adapter that goes through the product's evaluation and gates, with default thresholds.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch

from infra.contracts.manifests import GateReport, Verdict
from tests.goldbed.gated import House, opened
from tests.goldbed.planted import REGRESSIONS, Teach, careful, improving, unchanged
from tests.support.adapters import Spoil, change_weights, tamper, with_nan, with_wrong_shape

BROKEN: dict[str, tuple[Spoil, bool]] = {  # and whether its manifest was written afterwards
    "broken: not a number": (change_weights(with_nan), True),
    "broken: wrong shape": (change_weights(with_wrong_shape), True),
    "broken: tampered with": (tamper, False),
}
STOPPED_BY = {  # the gate that is there for it; others may fail too
    "verbose": "length",
    "flattering": "style",
    "over-refusing": "style",
    "question-spamming": "style",
    "repeating": "style",
    "fact-shifting": "canary",
    "unsafe": "safety",
    "one-segment-hurting": "judge_segments",
    **dict.fromkeys(BROKEN, "validity"),
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
    parser.add_argument("--only", nargs="+", help="These candidates alone.")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch, opened(wanted.out or Path(scratch)) as house:
        rows = list(run(house, wanted.only))
    if wanted.json:
        wanted.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    sys.stdout.write(table(rows) + "\n")


def run(house: House, only: Sequence[str] | None = None) -> Iterator[Row]:
    """Each candidate in turn, all of them unless named."""
    for name, make in candidates(house).items():
        if only is None or name in only:
            began = time.monotonic()
            report = make()
            row = read(name, report, round(time.monotonic() - began, 1))
            sys.stderr.write(f"{row}\n")
            yield row


def candidates(house: House) -> dict[str, Callable[[], GateReport]]:
    """The regressions, then what is broken, then what is not worse."""
    taught = {**REGRESSIONS, "no better: its own answers": careful(unchanged), "better: taught": careful(improving)}
    return {
        **{name: partial(_taught, house, name, teach) for name, teach in taught.items()},
        **{name: partial(_broken, house, spoil, resign) for name, (spoil, resign) in BROKEN.items()},
        "no change": partial(_untaught, house),
        "better: learnt from votes": partial(_learnt, house),
    }


def _taught(house: House, name: str, teach: Teach) -> GateReport:
    house.teach(teach(house.asked, random.Random(name)))
    return house.gates()


def _untaught(house: House) -> GateReport:
    house.teach([])
    return house.gates()


def _broken(house: House, spoil: Spoil, resign: bool) -> GateReport:
    house.teach([])
    return house.gates(spoil, resign=resign)


def _learnt(house: House) -> GateReport:
    house.learn()
    return house.gates()


def table(rows: Sequence[Row]) -> str:
    lines = [HEAD, "|---|---|---|---|---|---|"]
    for row in rows:
        cells = [", ".join(f"`{name}`" for name in names) for names in (row.fails, row.undecided, row.advice)]
        judge = "" if row.judge is None else f"{row.judge:.2f}"
        lines.append(f"| {row.candidate} | {row.verdict} | {' | '.join(cells)} | {judge} |")
    return "\n".join(lines)


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
