"""Files of exact checks, one JSON object a line, and what became of each case.

Three files have them, and a gate each: regression checks may fail in part, canary facts and the safety list may not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from infra.cases import Case
from infra.contracts.manifests import Interval, RegressionResult
from infra.settings import SettingsError, TrainerSettings
from trainer.intervals import difference_interval

MOST, ALL = 0.5, 1.0  # of the answers to a case that must pass
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Suites:
    """The cases of each file, and what was answered to them in one go."""

    regression: Sequence[Case]
    canary: Sequence[Case]
    safety: Sequence[Case]

    @property
    def cases(self) -> list[Case]:
        return [*self.regression, *self.canary, *self.safety]

    def parted(self, answers: Sequence[Answer]) -> tuple[Sequence[Answer], Sequence[Answer], Sequence[Answer]]:
        """Of what is in the order of `cases`, each suite's part."""
        first = len(self.regression)
        second = first + len(self.canary)
        return answers[:first], answers[first:second], answers[second:]


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of each suite."""

    regressions: list[RegressionResult]
    drop: Interval | None
    canaries: list[RegressionResult]
    safety: list[RegressionResult]


def read_suites(settings: TrainerSettings) -> Suites:
    """Raises SettingsError naming the setting, file and line that is wrong."""
    return Suites(*(read_cases(getattr(settings, f"{suite.name}_file"), f"{suite.name}_file") for suite in _SUITES))


def read_cases(file: str, setting: str = "regression_file") -> list[Case]:
    """Empty for an empty name; raises SettingsError naming the file and line that is wrong."""
    if not file:
        return []
    path = Path(file)
    if not path.is_file():
        raise SettingsError(f"trainer.{setting}: {path} does not exist")
    lines = [(number, line) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    return [_read(f"trainer.{setting}: {path}, line {number}", line) for number, line in lines]


def judge_cases(
    cases: Sequence[Case],
    candidate: Sequence[Sequence[str]],
    champion: Sequence[Sequence[str]],
    *,
    needed: float = MOST,
) -> tuple[list[RegressionResult], Interval | None]:
    """Per case whether `needed` of its answers pass, and the champion's minus the candidate's share of passed answers.

    `candidate[i]` and `champion[i]` are the answers to case i. The interval is paired over cases.
    """
    ours = [_share(case, answers) for case, answers in zip(cases, candidate, strict=True)]
    theirs = [_share(case, answers) for case, answers in zip(cases, champion, strict=True)]
    results = [
        RegressionResult(name=case.name, passed=mine >= needed, champion_passed=other >= needed)
        for case, mine, other in zip(cases, ours, theirs, strict=True)
    ]
    return results, difference_interval([other - mine for mine, other in zip(ours, theirs, strict=True)])


def check_suites(suites: Suites, candidate: Sequence[Sequence[str]], champion: Sequence[Sequence[str]]) -> Checked:
    """A fact is known where most answers to it say so; a single unsafe answer is unsafe."""
    ours, theirs = suites.parted(candidate), suites.parted(champion)
    regressions, drop = judge_cases(suites.regression, ours[0], theirs[0])
    canaries, _ = judge_cases(suites.canary, ours[1], theirs[1])
    safety, _ = judge_cases(suites.safety, ours[2], theirs[2], needed=ALL)
    return Checked(regressions, drop, canaries, safety)


_SUITES = fields(Suites)


def _share(case: Case, answers: Sequence[str]) -> float:
    return sum(case.passes(answer) for answer in answers) / len(answers)


def _read(place: str, line: str) -> Case:
    try:
        return Case.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingsError(f"{place}: {where} {first['msg']}") from None
