"""A refusal ends the training with its words; a warning goes along with the result and into the log."""

import pytest
from structlog.testing import capture_logs

from trainer.errors import StageFailed
from trainer.findings import Finding, Kind, Severity, settled

REFUSED = Finding(Kind.ONE_RATER, Severity.REFUSE, "by one rater")
WARNED = Finding(Kind.FEW_PROMPTS, Severity.WARN, "three prompts")


def test_warnings_are_kept_as_json_and_logged() -> None:
    with capture_logs() as logs:
        assert settled([WARNED]) == [{"kind": "few_prompts", "message": "three prompts"}]
    assert [(line["event"], line["kind"]) for line in logs] == [("data_doubted", "few_prompts")]


def test_every_refusal_is_told_at_once() -> None:
    with pytest.raises(StageFailed, match="by one rater; all up"):
        settled([REFUSED, WARNED, Finding(Kind.ONE_LABEL, Severity.REFUSE, "all up")])


def test_what_is_tolerated_becomes_a_warning_and_nothing_else_does() -> None:
    assert [kept["kind"] for kept in settled([REFUSED, WARNED], tolerated={Kind.ONE_RATER})] == [
        "one_rater",
        "few_prompts",
    ]
    with pytest.raises(StageFailed, match="by one rater"):
        settled([REFUSED], tolerated={Kind.ONE_PROMPT})


def test_nothing_found_is_nothing_kept() -> None:
    assert settled([]) == []
