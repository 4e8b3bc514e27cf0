"""The off-policy benchmark's truths are true, and its figures are what they are called."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench import off_policy
from tests.bench.off_policy import replicate
from tests.bench.off_policy_bandit import Bandit
from tests.bench.off_policy_models import Effort, Models, candidates
from tests.goldbed.bed import Size
from trainer.off_policy import mean_weight

SMALL = Effort(Size(corpus=200, base_steps=20, demonstrations=32, pairs=40), logged=12, own=12, shares=(0.0, 1.0))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[Models]:
    return list(candidates(tmp_path_factory.mktemp("bed"), "short", SMALL))


def test_where_the_candidate_is_the_behaviour_every_answer_weighs_one() -> None:
    (row, *_) = replicate("bandit", Bandit(15, 0.0), 0.0, 20)
    assert (row.ess_share, row.kl, row.answered) == (pytest.approx(1), pytest.approx(0), 1.0)
    assert row.mean_weight == pytest.approx(1)


def test_votes_that_depend_on_the_answer_mislead_all_but_the_self_normalised_estimate() -> None:
    rows = {row.estimator: row for row in replicate("bandit", Bandit(4, 0.4, eager=0.5), 0.5, 150)}
    assert abs(rows["snips"].bias) < 0.01
    assert rows["ips"].bias > 0.1
    alike = {row.estimator: row for row in replicate("bandit", Bandit(4, 0.4), 0.0, 150)}
    assert all(abs(row.bias) < 0.02 for row in alike.values())


def test_the_mean_weight_of_voted_answers_is_by_how_much_more_people_vote_on_the_candidates() -> None:
    bandit, rng = Bandit(4, 0.4, eager=0.5), np.random.default_rng(0)
    own, logged = (rng.multinomial(4, chance, size=100_000) for chance in (bandit.candidate_K, [0.3, 0.4, 0.3]))
    expected = bandit.voting(own).mean() / bandit.voting(logged).mean()
    found = np.mean([mean_weight(bandit.draw(256, 64, rng).votes) for _ in range(100)])
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.training
def test_models_on_the_behaviours_place_weigh_one_and_moved_ones_do_not(scenes: list[Models]) -> None:
    same, moved = scenes
    assert same.candidate_N == pytest.approx(same.logged.logprob_N, abs=1e-3)
    assert (same.kl, moved.kl > same.kl) == (pytest.approx(0, abs=1e-6), True)
    assert np.abs(moved.candidate_N - moved.logged.logprob_N).max() > 0.05


@pytest.mark.training
def test_a_models_truth_is_what_its_own_answers_get(scenes: list[Models]) -> None:
    """By single votes of the crowd on the candidate's own answers."""
    moved, rng = scenes[1], np.random.default_rng(0)
    answers_N, raters_N = (rng.integers(count, size=40_000) for count in (len(moved.own.gold_N), 1000))
    wish_N = (moved.own.manners_NW[answers_N] * moved.quirks_RW[raters_N]).sum(1)
    up_N = rng.random(40_000) < moved._up(moved.own.gold_N[answers_N], wish_N)
    assert moved.truth == pytest.approx(float(up_N.mean()), abs=0.02)


@pytest.mark.training
def test_a_short_run_writes_every_estimator_in_every_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_policy, "Effort", lambda: SMALL)
    monkeypatch.setattr(off_policy, "VOTES", 60)
    out = tmp_path / "found.json"
    off_policy.main(["--replications", "3", "--json", str(out), "--directory", str(tmp_path / "bed")])
    rows = json.loads(out.read_text())
    beds = {bed: [row for row in rows if row["bed"] == bed] for bed in ("bandit", "models")}
    assert (len(beds["bandit"]), len(beds["models"])) == (8 * 2 * 3, 2 * 2 * 2 * 3)
    assert {row["estimator"] for row in rows} == {"ips", "snips", "dr"}
