from dataclasses import replace

from serving.world import live, too_many, wanted
from tests.support.routing import make_route
from tests.support.worlds import make_rollout, make_world


def test_the_base_needs_no_slot() -> None:
    assert wanted(make_world(previous=["base"])) == []
    assert live(make_world().routes) == []


def test_live_versions_and_a_rollouts_target_come_first() -> None:
    world = make_world("v1", previous=["v0"], candidates=["v3"], rollouts=[make_rollout("v2")])
    assert wanted(world) == ["v1", "v2", "v3", "v0"]


def test_what_does_not_fit_the_slots_is_left_out_from_the_end() -> None:
    world = make_world("v3", previous=["v2", "v1", "v0"], candidates=["v4"], slots=3)
    assert wanted(world) == ["v3", "v4", "v2"]


def test_what_users_need_is_wanted_beyond_all_slots() -> None:
    assert wanted(make_world("v1", rollouts=[make_rollout("v2")], candidates=["v3"], slots=1)) == ["v1", "v2"]


def test_a_version_is_wanted_once() -> None:
    assert wanted(make_world("v1", previous=["v0"], candidates=["v1", "v0"])) == ["v1", "v0"]


def test_two_aliases_with_a_rollout_each_fit_the_default_slots() -> None:
    rollouts = [make_rollout("v2"), make_rollout("h2", rollout_id="r2", alias="helper")]
    world = make_world("v1", rollouts=rollouts)
    assert world.table is not None
    world.table.aliases["helper"] = make_route("h1", alias="helper")
    assert wanted(world) == ["v1", "h1", "v2", "h2"]
    assert too_many(world) is None
    assert "v1, h1, v2, h2 need 4 slots" in (too_many(replace(world, slots=3)) or "")
