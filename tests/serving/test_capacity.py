"""An operator is told before one replica has to bear what three did."""

import pytest

from infra.contracts.rollouts import Step
from infra.contracts.routing import ReplicaState, RoutingTable, base_version
from infra.database.tables import RolloutRow
from infra.registry.rollouts import RolloutState
from serving.capacity import shortage
from tests.support.routing import make_replica, make_table

NEW = "fedcba987654"
NEXT = base_version(NEW)
STEPS = (Step(share=0.01), Step(share=0.25), Step(share=0.5))


def make_fleet(new: int, of: int, state: ReplicaState = ReplicaState.READY) -> RoutingTable:
    old = [make_replica(name=f"old-{number}") for number in range(of - new)]
    more = {"base_revision": NEW, "versions": [NEXT], "state": state}
    return make_table(replicas=[*old, *(make_replica(name=f"new-{number}", **more) for number in range(new))])


def make_row(step: int, state: RolloutState = RolloutState.RUNNING, version: str = NEXT) -> RolloutRow:
    steps = [one.model_dump(mode="json") for one in STEPS]
    return RolloutRow(alias="assistant", version=version, state=state, step=step, steps=steps)


@pytest.mark.parametrize(
    ("new", "of", "step", "share"),
    [(1, 4, 0, None), (1, 4, 1, "50%"), (2, 4, 1, None), (2, 4, 2, "100%"), (4, 4, 2, None), (1, 5, 0, "25%")],
)
def test_it_is_said_when_the_next_step_gives_more_than_the_share_of_replicas_that_can_bear_it(
    new: int, of: int, step: int, share: str | None
) -> None:
    said = shortage(make_fleet(new, of), make_row(step))
    assert (said is None) if share is None else (said is not None and f"gives it {share}" in said)
    assert said is None or f"{new} of {of} ready replicas" in said


def test_a_rollout_that_has_not_begun_is_warned_of_its_first_step() -> None:
    assert shortage(make_fleet(1, 2), make_row(0, RolloutState.LOADING)) is None
    assert "100%" in (shortage(make_fleet(1, 2), make_row(3, RolloutState.LOADING)) or "")


def test_an_adapter_on_the_same_base_and_a_base_without_replicas_are_no_such_matter() -> None:
    assert shortage(make_fleet(1, 4), make_row(2, version="base")) is None
    assert shortage(make_fleet(1, 4, ReplicaState.DOWN), make_row(2)) is None
