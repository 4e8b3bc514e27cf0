from serving.world import live, wanted
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
