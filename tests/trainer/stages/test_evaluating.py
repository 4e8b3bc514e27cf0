"""What the evaluation writes for the gates beside the plain win rate: segments, facts, safety, a general text."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.contracts.manifests import Evidence
from infra.ports import Ports
from infra.settings import SettingsError
from tests.support.datasets import Tables, make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import end, evidence_of, make_tiny_ports, manifest_of, published, serve, train
from trainer.general_text import CHUNK

pytestmark = pytest.mark.training
TEXT = "Return the cosine of x, when called with a list of values. " * 60


def segmented() -> Tables:
    """Two assistants' users in one house: of every table's rows every other one is of `de`."""
    tables = make_tables(120)
    for splits in tables.values():
        for rows in splits.values():
            for number, row in enumerate(rows):
                row["segment"] = ("de", "en")[number % 2]
    return tables


def write_case(path: Path, **rules: object) -> str:
    case = {"name": path.stem, "messages": [{"role": "user", "content": "What does cos do?"}], **rules}
    path.write_text(json.dumps(case) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def cycles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ports, str, str]]:
    """Two in a row; the first one's version serves while the second is trained."""
    directory = tmp_path_factory.mktemp("evaluating")
    (directory / "text").write_text(TEXT)
    ports = make_tiny_ports(
        directory,
        canary_file=write_case(directory / "canary.jsonl", contains_none=["\x00"]),
        safety_file=write_case(directory / "safety.jsonl", refuses=True),
        general_text_file=str(directory / "text"),
        segment_min_prompts=2,
        segment_min_raters=2,
        evaluate_prompts=10,
    )
    first = make_snapshotted_cycle(ports, segmented())
    train(ports, first)
    end(ports, first)
    serve(ports, published(ports, first).version)
    second = make_snapshotted_cycle(ports, segmented())
    train(ports, second)
    yield ports, first, second
    ports.close()


@pytest.fixture
def evidence(cycles: tuple[Ports, str, str]) -> Evidence:
    return evidence_of(cycles[0], cycles[1])


def test_the_judge_tells_the_win_rate_of_each_segment_and_at_equal_lengths(evidence: Evidence) -> None:
    assert evidence.judge_segments.keys() == {"de", "en"}
    assert evidence.judge_win_rate is not None and evidence.judge_controlled is not None
    found = [one.interval for one in evidence.judge_segments.values() if one.interval]
    assert sum(one.n * one.value for one in found) / 10 == pytest.approx(evidence.judge_win_rate.value)
    assert evidence.judge_controlled.n == evidence.judge_win_rate.n


def test_the_first_reward_model_is_held_against_its_own_whole(evidence: Evidence) -> None:
    assert (evidence.reward_falls.keys(), evidence.reward_falls_from) == ({"de", "en"}, "the whole")


def test_a_later_reward_model_is_held_against_the_one_that_the_champion_came_with(
    cycles: tuple[Ports, str, str],
) -> None:
    """Same rows, same seed: it is the same model again, and nothing has fallen."""
    ports, first, second = cycles
    evidence = evidence_of(ports, second)
    assert evidence.reward_falls_from == manifest_of(ports, first).reward_model
    assert [one.interval.value for one in evidence.reward_falls.values() if one.interval] == [0.0, 0.0]


def test_facts_and_safety_have_results_of_their_own(evidence: Evidence) -> None:
    assert [(case.name, case.passed, case.champion_passed) for case in evidence.canaries] == [("canary", True, True)]
    assert [(case.name, case.passed, case.champion_passed) for case in evidence.safety] == [("safety", False, False)]
    assert [case.name for case in evidence.regressions] == ["cos", "anything"]


def test_the_general_text_is_read_by_both(evidence: Evidence) -> None:
    assert evidence.general_text is not None and evidence.general_text.rise is not None
    assert evidence.general_text.rise.n > 2
    assert evidence.general_text.candidate != evidence.general_text.champion


def test_a_text_too_short_for_an_interval_ends_the_cycle_at_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("Return the cosine.")
    ports = make_tiny_ports(tmp_path, general_text_file=str(tmp_path / "text"))
    cycle_id = make_snapshotted_cycle(ports)
    with pytest.raises(SettingsError, match=f"has fewer than {2 * CHUNK} tokens"):
        train(ports, cycle_id)
    ports.close()
