"""The reconciler as a table: what is so, and what must follow."""

from dataclasses import replace

import pytest

from infra.clock import now
from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Look, Step, StepKind
from infra.contracts.routing import AliasRoute, ReplicaState
from infra.registry.rollouts import FINAL_STATES, RolloutState
from serving.reconcile import Identify, Move, Plan, Prepare, Unload, plan, rechecks
from serving.world import RolloutView, World, wanted
from tests.support.routing import make_route
from tests.support.worlds import make_gateway, make_rollout, make_starting, make_view, make_world

R = RolloutState


def planned(world: World) -> Plan:
    return plan(world, now())


def moves(world: World) -> list[RolloutState]:
    return [move.target for move in planned(world).moves]


def prepared(world: World) -> list[str]:
    return [job.version for job in planned(world).jobs if isinstance(job, Prepare)]


def unloaded(world: World) -> list[str]:
    return [job.name for job in planned(world).jobs if isinstance(job, Unload)]


def champion_after(world: World) -> str:
    table = planned(world).table
    assert table is not None
    return table.aliases["assistant"].champion


def test_a_settled_world_needs_nothing() -> None:
    assert planned(make_world("v1")) == Plan([], [], None, [])


def test_a_fresh_stack_gets_a_first_table_on_which_the_base_answers_everybody() -> None:
    table = planned(replace(make_world(), table=None)).table
    assert table is not None
    assert (table.revision, table.aliases["assistant"].champion) == (1, "base")
    assert table.aliases["assistant"].versions[0].weight == 1.0


def test_a_second_alias_is_added_beside_the_one_that_is_routed_already() -> None:
    table = planned(replace(make_world("v1"), alias="helper")).table
    assert table is not None
    assert {name: route.champion for name, route in table.aliases.items()} == {"assistant": "v1", "helper": "base"}


def test_a_replica_that_came_up_is_ready_at_once_where_the_base_answers() -> None:
    after = planned(make_world(replicas=[make_starting()]))
    assert [(replica.state, replica.versions) for replica in after.replicas] == [(ReplicaState.READY, ["base"])]
    assert after.table is not None


def test_a_restarted_replica_is_not_ready_before_its_champion_is_verified_again() -> None:
    world = make_world("v1", replicas=[make_starting()])
    assert planned(world).replicas[0].state is ReplicaState.STARTING
    assert prepared(world) == ["v1"]
    verified = make_world("v1", replicas=[make_starting(loaded=["v1"], versions=["base", "v1"])])
    assert planned(verified).replicas[0].state is ReplicaState.READY


def test_what_is_loaded_but_was_not_verified_is_prepared_again() -> None:
    assert prepared(make_world("v1", replicas=[make_view(loaded=["v1"])])) == ["v1"]


def test_what_an_engine_has_lost_is_no_longer_verified_on_it() -> None:
    lost = make_view(verified=["v1"])
    after = planned(make_world("v1", replicas=[replace(lost, loaded=frozenset({"base"}))]))
    assert after.replicas[0].versions == ["base"]
    assert after.replicas[0].state is ReplicaState.STARTING


def test_a_replica_that_does_not_answer_is_down_and_has_nothing() -> None:
    after = planned(make_world("v1", replicas=[make_view(verified=["v1"], loaded=None)]))
    assert (after.replicas[0].state, after.replicas[0].versions) == (ReplicaState.DOWN, [])
    assert after.table is not None


def test_a_replica_that_still_starts_is_not_called_down() -> None:
    assert planned(make_world(replicas=[make_starting(loaded=None)])).replicas == []


def test_a_controller_that_has_just_started_takes_no_engine_out_of_service() -> None:
    view = replace(make_view(verified=["v1"], loaded=None), asked=False)
    assert planned(make_world("v1", replicas=[view])) == Plan([], [], None, [])


def test_a_replica_of_another_base_never_becomes_ready() -> None:
    world = make_world("v1", replicas=[make_starting(base_revision="fedcba987654")])
    assert planned(world).replicas == []
    assert planned(world).jobs == []


def test_a_replica_of_another_base_holds_back_no_rollout() -> None:
    other = make_starting(name="replica-1", base_revision="fedcba987654")
    world = make_world("v1", replicas=[make_view(verified=["v1", "v2"]), other], rollouts=[make_rollout("v2")])
    assert champion_after(world) == "v2"


def test_an_engine_that_started_anew_has_nothing_verified_whatever_it_has_loaded() -> None:
    """Also where it came up at the same address before anybody missed it."""
    other = replace(make_view(verified=["v1"]), started=2.0)
    after = planned(make_world("v1", replicas=[other]))
    assert (after.replicas[0].state, after.replicas[0].versions) == (ReplicaState.STARTING, ["base"])
    assert after.jobs == [], "jobs are of the engine that the row speaks of"
    assert after.table is not None
    known = replace(other, row=after.replicas[0])
    assert prepared(make_world("v1", replicas=[known])) == ["v1"]


def test_an_engine_that_was_found_has_to_show_its_base_first_and_again_after_each_start() -> None:
    found = make_starting(base_revision="", discovered=True)
    after = planned(make_world("v1", replicas=[found]))
    assert (after.replicas, after.jobs) == ([], [Identify(found.row)])
    known = make_view(verified=["v1"], discovered=True)
    assert planned(make_world("v1", replicas=[known])).jobs == []
    anew = planned(make_world("v1", replicas=[replace(known, started=2.0)])).replicas[0]
    assert (anew.base_revision, anew.versions, anew.state) == ("", [], ReplicaState.STARTING)


def test_nothing_is_sent_or_loaded_to_a_replica_that_an_operator_drains() -> None:
    drained = make_view(drain=True)
    after = planned(make_world("v1", replicas=[drained]))
    assert after.replicas[0].state is ReplicaState.DRAINING
    assert [job for job in after.jobs if isinstance(job, Prepare)] == []


def test_a_drained_replica_holds_back_no_rollout_and_alone_carries_none() -> None:
    drained = make_view(name="replica-1", verified=["v1"], drain=True, state=ReplicaState.DRAINING)
    both = make_world("v1", replicas=[make_view(verified=["v1", "v2"]), drained], rollouts=[make_rollout("v2")])
    assert champion_after(both) == "v2"
    assert R.DRAINING not in moves(make_world("v1", replicas=[drained], rollouts=[make_rollout("v1")]))


def test_a_replica_that_is_drained_no_more_comes_back_with_what_it_has() -> None:
    back = make_view(verified=["v1"], state=ReplicaState.DRAINING)
    assert planned(make_world("v1", replicas=[back])).replicas[0].state is ReplicaState.READY


def test_whoever_answers_users_is_checked_again() -> None:
    views = [make_view(), make_starting(name="replica-1"), make_view(name="replica-2", loaded=None)]
    assert [job.replica.name for job in rechecks(make_world(replicas=views))] == ["replica-0"]


def test_a_version_that_one_of_two_replicas_lacks_is_not_flipped_to() -> None:
    views = [make_view(verified=["v1", "v2"]), make_view(name="replica-1", verified=["v1"])]
    world = make_world("v1", replicas=views, rollouts=[make_rollout("v2", R.LOADING)])
    assert moves(world) == []
    assert moves(replace(world, refused={"v2": "no room"})) == [R.FAILED]


def test_a_rollout_whose_version_is_loaded_flips_in_the_first_look() -> None:
    world = make_world("v1", replicas=[make_view(verified=["v1", "v2"])], rollouts=[make_rollout("v2")])
    assert moves(world) == [R.LOADING, R.DRAINING]
    assert champion_after(world) == "v2"


def test_a_flip_keeps_the_old_version_as_previous_and_names_its_rollout() -> None:
    world = make_world(
        "v2", previous=["v1"], replicas=[make_view(verified=["v1", "v2", "v3"])], rollouts=[make_rollout("v3")]
    )
    table = planned(world).table
    assert table is not None
    route = table.aliases["assistant"]
    assert (route.previous, route.rollout_id, route.salt) == (["v2", "v1"], "r1", "r1")


def test_a_rollout_that_would_push_a_live_version_out_of_its_slot_is_refused_with_the_reason() -> None:
    (move,) = planned(make_world("v1", rollouts=[make_rollout("v2")], slots=1)).moves
    assert move.target is R.FAILED
    assert "raise serving.max_loras" in (move.reason or "")


def test_a_rollout_loads_before_it_flips() -> None:
    world = make_world("v1", rollouts=[make_rollout("v2")])
    assert moves(world) == [R.LOADING]
    assert prepared(world) == ["v2"]
    assert planned(world).table is None


def test_a_rollout_waits_for_every_replica_that_answers() -> None:
    two = [make_view(name="replica-0", verified=["v2"]), make_view(name="replica-1")]
    assert moves(make_world(replicas=two, rollouts=[make_rollout("v2", R.LOADING)])) == []


def test_a_rollout_does_not_wait_for_a_dead_replica() -> None:
    two = [make_view(name="replica-0", verified=["v2"]), make_view(name="replica-1", loaded=None)]
    assert moves(make_world(replicas=two, rollouts=[make_rollout("v2", R.LOADING)])) == [R.DRAINING]


def test_a_rollout_waits_while_no_replica_answers() -> None:
    world = make_world(replicas=[make_view(loaded=None)], rollouts=[make_rollout("v2", R.LOADING)])
    assert moves(world) == []


def test_a_rollback_to_the_base_needs_no_replica() -> None:
    world = make_world("v1", replicas=[make_view(loaded=None)], rollouts=[make_rollout("base")])
    assert moves(world) == [R.LOADING, R.DRAINING]


def test_a_refused_version_fails_its_rollout_with_the_reason() -> None:
    world = make_world("v1", rollouts=[make_rollout("v2", R.LOADING)], refused={"v2": "holds NaN"})
    after = planned(world)
    assert after.moves == [Move("r1", R.FAILED, "holds NaN")]
    assert (after.table, prepared(world)) == (None, [])


def test_a_live_version_is_tried_again_whatever_was_wrong_with_it() -> None:
    assert prepared(make_world("v1", replicas=[make_starting()], refused={"v1": "gone"})) == ["v1"]


@pytest.mark.parametrize(
    ("gateways", "ends"),
    [
        ([], True),
        ([make_gateway(1)], True),
        ([make_gateway(1, v1=2)], False),
        ([make_gateway(0)], False),
        ([make_gateway(1), make_gateway(1, v1=1)], False),
        ([make_gateway(1, v2=5)], True),
    ],
    ids=["no gateway", "moved on", "answers under way", "behind", "one of two is busy", "busy with the new one"],
)
def test_a_rollout_ends_when_every_gateway_has_moved_on_and_counts_zero(gateways: list, ends: bool) -> None:
    world = make_world(
        "v2", previous=["v1"], rollout_id="r1", rollouts=[make_rollout("v2", R.DRAINING)], gateways=gateways
    )
    assert (moves(world) == [R.DONE]) is ends


def test_the_base_is_drained_like_any_other_version() -> None:
    draining = {"rollout_id": "r1", "rollouts": [make_rollout("v2", R.DRAINING)]}
    assert moves(make_world("v2", previous=["base"], gateways=[make_gateway(1, base=1)], **draining)) == []


def test_an_overdue_drain_ends_but_its_old_version_stays_until_its_last_answer() -> None:
    world = make_world(
        "v2",
        previous=[],
        rollout_id="r1",
        replicas=[make_view(verified=["v2"], loaded=["v1"])],
        rollouts=[make_rollout("v2", R.DRAINING, overdue=True)],
        gateways=[make_gateway(1, v1=1)],
    )
    assert moves(world) == [R.DONE]
    assert unloaded(world) == []


def test_a_superseded_rollout_ends_at_once() -> None:
    world = make_world(
        "v2", rollout_id="another", rollouts=[make_rollout("v2", R.DRAINING)], gateways=[make_gateway(0)]
    )
    assert moves(world) == [R.DONE]


def test_an_unwanted_version_leaves_the_table_before_it_leaves_the_engine() -> None:
    listed = make_world("v1", replicas=[make_view(verified=["v1", "old"])])
    assert planned(listed).replicas[0].versions == ["base", "v1"]
    assert unloaded(listed) == []
    assert unloaded(make_world("v1", replicas=[make_view(verified=["v1"], loaded=["old"])])) == ["old"]


@pytest.mark.parametrize("gateway", [make_gateway(0), make_gateway(1, old=1)], ids=["behind", "answers under way"])
def test_an_unwanted_version_stays_while_a_gateway_may_use_it(gateway: object) -> None:
    world = make_world("v1", replicas=[make_view(verified=["v1"], loaded=["old"])], gateways=[gateway])
    assert unloaded(world) == []


def test_training_adapters_stay_with_their_cycle_and_go_with_it() -> None:
    view = make_view(verified=["v1"], loaded=["train-7-3", "train-8-1"])
    world = make_world("v1", replicas=[view], training=frozenset({"8"}), gateways=[make_gateway(0)])
    assert unloaded(world) == ["train-7-3"]


def test_the_previous_version_stays_loaded_so_that_a_rollback_flips_at_once() -> None:
    world = make_world("v2", previous=["v1"], replicas=[make_view(verified=["v1", "v2"])])
    assert planned(world) == Plan([], [], None, [])


def test_another_base_under_an_alias_starts_it_again_from_no_adapter() -> None:
    table = planned(replace(make_world("v1"), base_revision="fedcba987654")).table
    assert table is not None
    assert table.aliases["assistant"] == make_route(base_revision="fedcba987654")


def test_a_version_in_gating_is_prepared_but_not_routed() -> None:
    world = make_world("v1", candidates=["v2"])
    assert prepared(world) == ["v2"]
    assert planned(world).table is None


STEPS = (Step(kind=StepKind.SHADOW, share=0.2, max_s=60), Step(share=0.1), Step(share=0.5, pairs=0.3))


def passed() -> Look:
    return Look(at=now(), step=0, verdict=Verdict.PASS, reason="as good")


def at_step(step: int, state: RolloutState = R.RUNNING, look: Look | None = None, **fields: object) -> World:
    """Champion v1, and v2 at a step, verified everywhere."""
    view = make_view(verified=["v1", "v2"])
    rollout = make_rollout(state=state, steps=STEPS, step=step, began_at=now(), look=look, from_version="v1")
    world = make_world("v1", replicas=[view], **fields)
    assert world.table is not None
    route = world.routes["assistant"].stepped("v2", "r1", step, STEPS[step]) if step < len(STEPS) else None
    aliases = {"assistant": route or world.routes["assistant"]}
    table = world.table.model_copy(update={"aliases": aliases})
    return replace(world, table=table, rollouts=[rollout])


def route_after(world: World) -> AliasRoute:
    table = planned(world).table
    assert table is not None
    return table.aliases["assistant"]


def test_a_loaded_version_begins_its_first_step_and_a_shadow_meets_no_user() -> None:
    world = at_step(0)
    loading = replace(world, rollouts=[replace(world.rollouts[0], state=R.LOADING)])
    loading = replace(loading, table=make_world("v1", replicas=loading.replicas).table)
    assert [(move.target, move.step) for move in planned(loading).moves] == [(R.RUNNING, 0)]
    route = route_after(loading)
    assert (route.champion, route.challenger, route.mirrors, route.rollout_step) == ("v1", None, {"v2": 0.2}, 0)


def test_each_passed_step_gives_it_the_share_of_the_next() -> None:
    route = route_after(at_step(0, look=passed()))
    assert [(entry.version, entry.weight) for entry in route.versions] == [("v1", 0.9), ("v2", 0.1)]
    assert (route.salt, route.rollout_step, route.mirrors) == ("r1", 1, {})
    route = route_after(at_step(1, look=passed()))
    assert ([entry.weight for entry in route.versions], route.pairs) == ([0.5, 0.5], 0.3)


def test_after_the_last_step_it_answers_everybody() -> None:
    world = at_step(2, look=passed())
    assert moves(world) == [R.DRAINING]
    assert (champion_after(world), route_after(world).previous) == ("v2", ["v1"])


def test_failing_evidence_takes_all_its_traffic_away_in_the_same_plan() -> None:
    world = at_step(2, look=Look(at=now(), step=2, verdict=Verdict.FAIL, reason="votes fell"))
    assert [(move.target, move.reason) for move in planned(world).moves] == [(R.ABORTED, "votes fell")]
    route = route_after(world)
    assert (route.champion, route.challenger, route.rollout_step, route.pairs) == ("v1", None, None, 0)


def test_a_version_that_an_engine_refuses_later_is_taken_back() -> None:
    world = at_step(1, refused={"v2": "it was tampered with"})
    assert [(move.target, move.reason) for move in planned(world).moves] == [(R.ABORTED, "it was tampered with")]
    assert route_after(world).challenger is None


@pytest.mark.parametrize("state", [R.PAUSED, R.AWAITING_PERSON])
def test_a_held_rollout_keeps_its_traffic_and_stays(state: RolloutState) -> None:
    assert planned(at_step(1, state, look=passed())) == Plan([], [], None, [])


def test_a_replica_without_the_challenger_still_answers_for_the_champion() -> None:
    world = at_step(1)
    second = make_view(verified=["v1"], name="replica-1", address="http://127.0.0.1:2")
    after = planned(replace(world, replicas=[*world.replicas, second]))
    assert [job.version for job in after.jobs if isinstance(job, Prepare)] == ["v2"]
    assert after.table is not None
    assert {replica.state for replica in after.table.replicas} == {ReplicaState.READY}


def test_the_rest_of_the_steps_is_left_out_where_a_person_says_so() -> None:
    world = at_step(1)
    skipping = replace(world.rollouts[0], state=R.LOADING, step=len(STEPS))
    assert champion_after(replace(world, rollouts=[skipping])) == "v2"


def queued(version: str = "v3", rollout_id: str = "r2", from_version: str = "v1") -> RolloutView:
    return make_rollout(version, R.QUEUED, rollout_id=rollout_id, from_version=from_version, steps=STEPS)


def test_what_is_queued_waits_for_the_one_under_way() -> None:
    world = at_step(1)
    assert moves(replace(world, rollouts=[*world.rollouts, queued()])) == []


def test_only_the_first_of_the_queue_begins() -> None:
    world = replace(at_step(1), table=make_world("v1").table, rollouts=[queued(), queued("v4", "r3")])
    assert [(move.rollout_id, move.target) for move in planned(world).moves] == [("r2", R.REQUESTED)]


def test_a_rollback_that_came_later_goes_before_the_queue() -> None:
    back = make_rollout("base", R.DRAINING, rollout_id="r9")
    world = replace(make_world("v1", rollout_id="r9"), rollouts=[queued(), back])
    assert [(move.rollout_id, move.target) for move in planned(world).moves] == [("r9", R.DONE)]


def test_gates_that_compared_it_with_another_champion_count_no_longer() -> None:
    world = replace(make_world("v2"), rollouts=[queued(from_version="v1")])
    [move] = planned(world).moves
    assert (move.target, move.reason) == (
        R.FAILED,
        "its gates compared it with v1, the champion is v2 by now",
    )


def test_what_is_queued_takes_no_slot_from_what_serves() -> None:
    world = replace(make_world("v1"), rollouts=[queued()], slots=1)
    assert wanted(world) == ["v1"]


def test_who_is_queued_keeps_nobody_else_from_being_rolled_out() -> None:
    asked = make_rollout("v2", R.REQUESTED)
    world = replace(make_world("v1"), rollouts=[asked, queued()], slots=2)
    assert moves(world)[:1] == [R.LOADING]


@pytest.mark.parametrize("state", sorted(set(R) - FINAL_STATES))
def test_the_controller_hurries_only_while_something_loads_or_drains(state: RolloutState) -> None:
    hurried = replace(make_world("v1"), rollouts=[make_rollout(state=state)]).is_moving
    assert hurried is (state in (R.REQUESTED, R.LOADING, R.DRAINING))
