"""A cycle whose reward models disagree leaves questions for raters; one with a single model has none."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.contracts.queries import Queries, queries_path
from infra.ports import Ports
from infra.registry.cycles import CycleState
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.tiny_cycles import make_tiny_ports, published, result_of, train

pytestmark = pytest.mark.training


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    """On a base with many end tokens, so that its random answers end by themselves."""
    opened = make_tiny_ports(tmp_path, policy_max_new_tokens=64)
    file = Path(opened.settings.serving.model) / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": list(range(100, 160))}))
    yield opened
    opened.close()


def test_what_an_ensemble_disputes_is_published_as_questions_on_train_prompts(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=120), reward_members=2, query_pairs=3, method="dpo")
    assert train(ports, cycle_id) is CycleState.GATING
    found = Queries.model_validate(ports.artifacts.read_json(queries_path(published(ports, cycle_id).version)))
    assert len(found.queries) == result_of(ports, cycle_id, CycleState.EVALUATING)["queries"] > 0
    assert found.members == 2
    assert len(found.queries) <= 3
    assert all(int(query.prompt_id[1:]) % 4 for query in found.queries)  # every fourth prompt is the gates' own
    assert found.queries[0].disagreement >= found.queries[-1].disagreement > 0


@pytest.mark.parametrize("settings", [{"reward_members": 1}, {"reward_members": 2, "query_pairs": 0}])
def test_a_single_model_disputes_nothing_and_nobody_is_asked(ports: Ports, settings: dict[str, int]) -> None:
    cycle_id = make_snapshotted_cycle(ports, make_tables(), method="dpo", **settings)
    assert train(ports, cycle_id) is CycleState.GATING
    assert not ports.artifacts.exists(queries_path(published(ports, cycle_id).version))
