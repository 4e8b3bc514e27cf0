"""Evidence from answers and scores, by prompt."""

import pytest

from trainer.evaluate import length_ratio, mean_by_prompt, probe_drift, probe_rates, samples, win_rate


def test_the_win_rate_is_over_all_pairs_of_answers_to_one_prompt() -> None:
    found = win_rate([[1.0, 3.0], [5.0]], [[2.0], [5.0, 4.0]])
    assert found is not None
    assert found.value == pytest.approx((0.5 + 0.75) / 2)
    assert found.n == 2


def test_equal_scores_are_half_a_win() -> None:
    found = win_rate([[1.0]] * 40, [[1.0]] * 40)
    assert found is not None
    assert found.value == 0.5
    assert found.lo < 0.5 < found.hi


def test_a_prompt_that_one_side_did_not_answer_counts_for_neither() -> None:
    found = win_rate([[1.0], [], [1.0]], [[0.0], [0.0], [0.0]])
    assert found is not None
    assert (found.value, found.n) == (1.0, 2)


def test_the_prompt_is_the_unit_of_the_interval_however_many_samples_it_has() -> None:
    few = mean_by_prompt([[1.0], [2.0], [3.0]])
    many = mean_by_prompt([[1.0] * 50, [2.0] * 50, [3.0] * 50])
    assert few == many


def test_the_length_ratio_is_above_one_where_the_candidate_is_longer() -> None:
    found = length_ratio([[20.0, 22.0], [30.0]], [[10.0], [15.0, 15.0]])
    assert found is not None
    assert found.value == pytest.approx(51 / 25)


def test_a_probe_moves_by_the_difference_of_its_rates() -> None:
    hedging, plain = "Perhaps it does.", "It does."
    candidate, champion = [[hedging, plain], [plain, plain]], [[hedging, hedging], [hedging, plain]]
    drift = probe_drift(candidate, champion)["hedge"]
    assert drift.value == pytest.approx(-0.5)
    assert probe_rates(candidate, champion)["hedge"] == {"candidate": 0.25, "champion": 0.75}


def test_samples_are_the_first_answers_with_the_judges_scores() -> None:
    prompts: list[tuple[str, list[dict[str, object]]]] = [("p1", [{"role": "user", "content": "hi"}]), ("p2", [])]
    found = samples(prompts, ([["a", "b"], ["c"]], [["x"], ["y"]]), ([[0.5, 0.6], [0.7]], [[0.1], [0.2]]), most=1)
    assert [(each.prompt_id, each.candidate, each.champion) for each in found] == [("p1", "a", "x")]
    assert (found[0].judge_candidate, found[0].judge_champion) == (0.5, 0.1)


def test_samples_without_a_judge_have_no_scores() -> None:
    found = samples([("p1", [])], ([["a"]], [["x"]]), None, most=5)
    assert found[0].judge_candidate is None
