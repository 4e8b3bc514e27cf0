"""A cycle's evidence says what held-out raters' votes on logged answers tell of the candidate."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.base_model import template_hash
from infra.contracts.manifests import DatasetManifest, Voting
from infra.registry.cycles import CycleState
from tests.support.datasets import make_prompt, make_snapshotted_cycle, make_tables
from tests.support.manifests import make_dataset_manifest
from tests.support.tiny_cycles import evidence_of, make_tiny_ports, train
from tests.support.training import make_message
from trainer.data import Prompt
from trainer.lines import Encoded
from trainer.logged import Logged, Vote
from trainer.model import load_base
from trainer.stages.offline_votes import described, weighed
from trainer.transformers_sampler import TransformersSampler

RATERS = 12


def make_vote(at: int = 0, **overrides: Any) -> Vote:
    fields = {
        "vote_id": f"vote-{at}", "up": at % 3 > 0, "rater": f"rater-{at % RATERS}", "weight": 1.0, "version": "v1",
        "propensity": 0.5, "temperature": 1.0, "logprob": -5.0, "encoded": Encoded([1, 2], [3, 4, 5]),
        "prompt": Prompt([{"role": "user", "content": "What?"}]),
    }  # fmt: skip
    return Vote(**{**fields, **overrides})


def make_counts(**versions: tuple[int, int]) -> DatasetManifest:
    """(answers, votes) of each version."""
    voting = {name: Voting(answers=answers, votes=votes) for name, (answers, votes) in versions.items()}
    return make_dataset_manifest(voting=voting)


def logged_rows(model: Path, votes: int) -> list[dict[str, Any]]:
    """Thumbs of a few held-out raters on answers that the bare base gave."""
    base, rng = load_base(model), random.Random(0)
    prompts = [make_prompt(number % 9 + 100) for number in range(votes)]
    drawn = TransformersSampler(base).sample(
        [Prompt(prompt) for prompt in prompts], adapter=None, n=1, temperature=0.8, top_p=1.0, max_tokens=12, seed=3
    )
    return [
        {
            "prompt": prompt, "completion": [make_message(answer.text)], "label": rng.random() < 0.6,
            "pair_id": f"logged-{at}", "unit": f"held-{at % RATERS}", "rater": f"held-{at % RATERS}", "source": "human",
            "weight": 1.0, "versions": {"completion": "base"}, "feedback_kind": "thumbs", "conversation_turns": None,
            "behaviour_logprob": {"completion": sum(answer.logprobs)}, "prompt_token_ids": list(answer.prompt_ids),
            "completion_token_ids": list(answer.token_ids), "arm": "champion", "arm_propensity": 1.0,
            "sampling": json.dumps({"temperature": 0.8 if at else 0.0}), "base_revision": base.revision,
            "template_hash": template_hash(model),
        }
        for at, (prompt, (answer,)) in enumerate(zip(prompts, drawn, strict=True))
    ]  # fmt: skip


@pytest.mark.training
def test_a_cycle_estimates_its_candidates_vote_rate_from_logged_answers(tmp_path: Path) -> None:
    ports = make_tiny_ports(tmp_path, off_policy_answers=60)
    rows = logged_rows(Path(ports.settings.serving.model), 80)
    tables = {**make_tables(pairs=200), "unpaired": {"test": rows}}
    cycle_id = make_snapshotted_cycle(ports, tables)
    assert train(ports, cycle_id) is CycleState.GATING
    found = evidence_of(ports, cycle_id).off_policy
    ports.close()
    assert found is not None
    assert (found.votes, found.raters, found.versions) == (60, RATERS, {"base": 60})
    assert found.left_out == {"greedy": 1, "not_drawn": 19}
    assert 2 < found.effective_size <= 60
    for interval in (found.ips, found.snips, found.dr, found.champion, found.difference):
        assert interval is not None
        assert interval.lo < interval.value < interval.hi
    assert found.snips is not None
    assert found.champion is not None
    assert found.snips.value != found.champion.value


@pytest.mark.training
def test_without_such_votes_the_evidence_says_what_was_left_out_and_without_the_wish_nothing(tmp_path: Path) -> None:
    ports = make_tiny_ports(tmp_path)
    older = [{**row, "completion_token_ids": None} for row in logged_rows(Path(ports.settings.serving.model), 3)]
    cycle_id = make_snapshotted_cycle(ports, {**make_tables(), "unpaired": {"test": older}}, policy_steps=1)
    train(ports, cycle_id)
    found = evidence_of(ports, cycle_id).off_policy
    assert found is not None
    assert (found.votes, found.left_out, found.snips) == (0, {"tokens_unknown": 3}, None)
    ports.close()


def test_the_champions_rate_does_not_depend_on_how_much_traffic_it_had_when() -> None:
    """Half its life it had all of it and was liked by all, the other half a tenth and was liked by none."""
    early = [make_vote(at, up=True, propensity=1.0) for at in range(20)]
    late = [make_vote(at, up=False, propensity=0.1) for at in range(2)]
    chosen = [*early, *late]
    votes = weighed(chosen, [-5.0] * len(chosen), lost=False)
    found = described(Logged(chosen), chosen, votes, "v1", make_counts(), None)
    assert found.champion is not None
    assert found.champion.value == pytest.approx(0.5)
    assert found.snips is not None
    assert found.snips.value == pytest.approx(20 / 22)


def test_each_vote_stands_for_the_arms_that_are_lost_only_where_some_are() -> None:
    chosen = [make_vote(0, propensity=0.25, weight=2.0), make_vote(1)]
    assert weighed(chosen, [-5.0, -5.0], lost=False).mass_N == pytest.approx([2.0, 1.0])
    assert weighed(chosen, [-5.0, -5.0], lost=True).mass_N == pytest.approx([8.0, 2.0])


def test_the_candidates_voting_rate_is_the_logged_one_times_the_mean_weight() -> None:
    chosen = [make_vote(at) for at in range(24)]
    votes = weighed(chosen, [-5.0 + np.log(1.5)] * 24, lost=False)
    manifest = make_counts(v1=(100, 30), v9=(1000, 0))
    found = described(Logged(chosen, Counter(greedy=2)), chosen, votes, "v9", manifest, None)
    assert (found.voting_rate, found.voting_rate_candidate) == (0.3, pytest.approx(0.45))
    assert (found.champion, found.difference, found.dr) == (None, None, None)
    assert found.left_out == {"greedy": 2}
    assert (found.effective_size, found.mean_tokens) == (pytest.approx(24), 3.0)


def test_where_nobody_counted_answers_there_is_no_voting_rate() -> None:
    chosen = [make_vote(at) for at in range(4)]
    found = described(Logged(chosen), chosen, weighed(chosen, [-5.0] * 4, lost=False), "v1", make_counts(), None)
    assert (found.voting_rate, found.voting_rate_candidate) == (None, None)


def test_a_candidate_that_would_say_nothing_of_what_was_voted_on_has_no_estimate() -> None:
    chosen = [make_vote(at) for at in range(6)]
    votes = weighed(chosen, [-2000.0] * 6, lost=False)
    found = described(Logged(chosen), chosen, votes, "v1", make_counts(), None)
    assert (found.votes, found.effective_size, found.snips, found.difference) == (6, 0.0, None, None)
