"""Exact checks: what an answer must contain, whatever the votes say. One JSON object a line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.contracts.manifests import Interval, RegressionResult
from infra.settings import SettingsError
from trainer.intervals import difference_interval


class Case(BaseModel):
    """Passes when the answer contains all of `contains_all` and, where given, one of `contains_any`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    messages: list[dict[str, Any]]
    contains_all: list[str] = []
    contains_any: list[str] = []

    def passes(self, answer: str) -> bool:
        some = not self.contains_any or any(part in answer for part in self.contains_any)
        return some and all(part in answer for part in self.contains_all)


def read_cases(file: str) -> list[Case]:
    """Empty for an empty name; raises SettingsError naming the file and line that is wrong."""
    if not file:
        return []
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"trainer.regression_file: {path} does not exist")
    lines = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    return [_read(path, number, line) for number, line in lines]


def judge_cases(
    cases: Sequence[Case], candidate: Sequence[Sequence[str]], champion: Sequence[Sequence[str]]
) -> tuple[list[RegressionResult], Interval | None]:
    """Per case whether most of its answers pass, and the champion's minus the candidate's share of passed answers.

    `candidate[i]` and `champion[i]` are the answers to case i. The interval is paired over cases.
    """
    ours = [_share(case, answers) for case, answers in zip(cases, candidate, strict=True)]
    theirs = [_share(case, answers) for case, answers in zip(cases, champion, strict=True)]
    results = [
        RegressionResult(name=case.name, passed=mine >= 0.5, champion_passed=other >= 0.5)
        for case, mine, other in zip(cases, ours, theirs, strict=True)
    ]
    return results, difference_interval([other - mine for mine, other in zip(ours, theirs, strict=True)])


def _share(case: Case, answers: Sequence[str]) -> float:
    return sum(case.passes(answer) for answer in answers) / len(answers)


def _read(path: Path, number: int, line: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"trainer.regression_file: {path}, line {number}: {where} {first['msg']}") from None
