"""Two bases at once, for the reconciler: adapters stay on theirs, an alias moves on by a rollout, and back."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.clock import now
from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Look, Step
from infra.contracts.routing import AliasRoute, Replica, ReplicaState
from infra.registry.rollouts import FINAL_STATES, RolloutState
from serving.reconcile import Plan, Prepare, Unload, plan, rechecks
from serving.world import Made, ReplicaView, RolloutView, World, misfits, too_many, wanted
from tests.support.routing import BASE_REVISION as OLD
from tests.support.routing import make_route, make_table
from tests.support.worlds import make_gateway, make_rollout, make_starting, make_view, make_world

NEW, OTHER = "fedcba987654", "777777777777"
NEXT, LAST = f"base-{NEW}", f"base-{OLD}"
MADE = {"v1": Made("assistant", OLD), "v2": Made("assistant", OLD), "n1": Made("assistant", NEW)}
R = RolloutState
STEPS = (Step(share=0.1), Step(share=0.5))


def new_view(verified: Iterable[str] = (), **row: object) -> ReplicaView:
    """A ready replica of the next base."""
    known = {"name": "replica-n", "address": "http://127.0.0.1:2", "base_revision": NEW, "served_model": "theirs"}
    view = make_view(**{**known, "versions": sorted({NEXT, *verified}), **row})
    return replace(view, loaded=frozenset({"theirs", *verified}))


def make_both(champion: str = "v1", *, views: list[ReplicaView] | None = None, **fields: object) -> World:
    """One replica of each base, and an alias on the old one."""
    given = views or [make_view(verified=[champion] if champion != "base" else []), new_view()]
    return make_world(champion, replicas=given, next_base=NEW, made=MADE, **fields)


def routed(world: World, route: AliasRoute) -> World:
    assert world.table is not None
    return replace(world, table=world.table.model_copy(update={"aliases": {"assistant": route}}))


def moved_on(champion: str = NEXT, *, views: list[ReplicaView] | None = None, **fields: object) -> World:
    """The alias is on the next base, from `v1` on the old one."""
    adapters = [] if champion == NEXT else [champion]
    world = make_both(views=views or [make_view(verified=["v1"]), new_view(adapters)], **fields)
    return routed(world, make_route("v1").flipped(champion, "r1", NEW))


def planned(world: World) -> Plan:
    return plan(world, now())


def route_after(world: World) -> AliasRoute:
    table = planned(world).table
    assert table is not None
    return table.aliases["assistant"]


def prepared(world: World) -> list[tuple[str, str]]:
    return [(job.replica.base_revision, job.version) for job in planned(world).jobs if isinstance(job, Prepare)]


def move_of(world: World) -> tuple[RolloutState, str | None]:
    [move] = planned(world).moves
    return move.target, move.reason


def test_two_bases_side_by_side_are_settled() -> None:
    assert planned(make_both()) == Plan([], [], None, [])


def test_a_replica_of_the_next_base_is_ready_as_soon_as_its_base_is_known_and_answers_to_that_name_alone() -> None:
    found = make_starting(base_revision=NEW, name="replica-n", discovered=True)
    [after] = planned(make_both(views=[make_view(verified=["v1"]), found])).replicas
    assert (after.state, after.versions) == (ReplicaState.READY, [NEXT])
    assert (after.has(NEXT), after.has("base"), after.has(LAST), after.has("v1")) == (True, False, False, False)


def test_no_adapter_is_prepared_on_a_base_that_it_was_not_made_for() -> None:
    fresh = [make_starting(), make_starting(base_revision=NEW, name="replica-n")]
    world = make_both(views=fresh, rollouts=[make_rollout("n1", R.LOADING)], candidates=["v2"])
    assert sorted(prepared(world)) == [(OLD, "v1"), (OLD, "v2"), (NEW, "n1")]


def test_each_engine_s_slots_hold_the_adapters_of_its_own_base() -> None:
    world = make_both(rollouts=[make_rollout("n1", R.LOADING)], slots=1)
    assert (wanted(world), wanted(world, NEW), too_many(world, NEW)) == (["v1"], ["n1"], None)


def test_what_a_replica_of_the_next_base_holds_of_the_old_one_is_unloaded() -> None:
    view = new_view()
    world = make_both(views=[make_view(verified=["v1"]), replace(view, loaded=frozenset({"theirs", "v1"}))])
    [job] = planned(replace(world, table=make_table(champion="v1", replicas=[make_view().row, view.row]))).jobs
    assert isinstance(job, Unload)
    assert (job.replica.name, job.name) == ("replica-n", "v1")


def test_the_next_base_begins_its_first_step_once_one_of_its_replicas_answers() -> None:
    rollout = make_rollout(NEXT, R.LOADING, steps=STEPS)
    alone = make_both(views=[make_view(verified=["v1"])], rollouts=[rollout])
    assert planned(alone).moves == []
    route = route_after(make_both(rollouts=[rollout]))
    assert [(entry.version, entry.weight) for entry in route.versions] == [("v1", 0.9), (NEXT, 0.1)]
    assert route.base_revision == OLD


def test_an_adapter_of_the_next_base_waits_for_all_of_its_replicas_and_for_no_other() -> None:
    second = new_view(name="replica-m")
    views = [make_view(verified=["v1"]), new_view(["n1"]), second]
    rollout = make_rollout("n1", R.LOADING)
    assert planned(make_both(views=views, rollouts=[rollout])).moves == []
    views = [make_view(verified=["v1"]), new_view(["n1"]), new_view(["n1"], name="replica-m")]
    assert route_after(make_both(views=views, rollouts=[rollout])).champion == "n1"


def test_the_flip_moves_the_alias_to_the_next_base_and_names_what_it_left_for_good() -> None:
    look = Look(at=now(), step=1, verdict=Verdict.PASS, reason="as good")
    rollout = make_rollout(NEXT, R.RUNNING, steps=STEPS, step=1, began_at=now(), look=look)
    route = route_after(make_both("base", rollouts=[rollout]))
    assert (route.champion, route.base_revision, route.previous) == (NEXT, NEW, [LAST])
    assert route_after(make_both("v1", rollouts=[rollout])).previous == ["v1"]


def test_the_flip_waits_for_a_replica_of_the_next_base_whatever_the_evidence_says() -> None:
    look = Look(at=now(), step=1, verdict=Verdict.PASS, reason="as good")
    rollout = make_rollout(NEXT, R.RUNNING, steps=STEPS, step=1, began_at=now(), look=look)
    down = replace(new_view(), loaded=None)
    assert planned(make_both(views=[make_view(verified=["v1"]), down], rollouts=[rollout])).moves == []


def test_failing_evidence_leaves_the_alias_on_its_base() -> None:
    look = Look(at=now(), step=1, verdict=Verdict.FAIL, reason="votes fell")
    rollout = make_rollout(NEXT, R.RUNNING, steps=STEPS, step=1, began_at=now(), look=look)
    world = make_both(rollouts=[rollout])
    world = routed(world, make_route("v1").stepped(NEXT, "r1", 1, STEPS[1]))
    route = route_after(world)
    assert (move_of(world)[0], route.champion, route.challenger, route.base_revision) == (R.ABORTED, "v1", None, OLD)


@pytest.mark.parametrize(("gateway", "ends"), [(make_gateway(1, base=1), False), (make_gateway(1), True)])
def test_the_flip_is_drained_once_nobody_answers_by_the_name_that_the_old_base_had_before(
    gateway: object, ends: bool
) -> None:
    world = make_both("base", rollouts=[make_rollout(NEXT, R.DRAINING)], gateways=[gateway])
    world = routed(world, make_route().flipped(NEXT, "r1", NEW))
    assert ([move.target for move in planned(world).moves] == [R.DONE]) is ends


def test_after_the_flip_the_old_replicas_keep_what_a_rollback_needs_and_stay_ready() -> None:
    assert planned(moved_on()) == Plan([], [], None, [])


def test_after_the_flip_a_replica_is_ready_only_with_the_champion_of_its_own_base() -> None:
    world = moved_on("n1", views=[make_view(verified=["v1"]), new_view()])
    [after] = planned(world).replicas
    assert (after.name, after.state) == ("replica-n", ReplicaState.STARTING)


def test_a_rollback_goes_to_the_old_base_while_its_replicas_answer_and_waits_where_none_does() -> None:
    back = make_rollout("v1", R.LOADING, is_rollback=True)
    route = route_after(moved_on(rollouts=[back]))
    assert (route.champion, route.base_revision, route.previous) == ("v1", OLD, [NEXT])
    for version in ("v1", "base", LAST):
        gone = moved_on(views=[make_view(loaded=None), new_view()], rollouts=[replace(back, version=version)])
        assert planned(gone).moves == [], version


def test_once_the_settings_name_the_next_base_the_alias_goes_on_with_its_champion() -> None:
    for champion in (NEXT, "n1"):
        before = moved_on(champion)
        after = replace(before, base_revision=NEW, next_base="")
        table = planned(after).table
        assert table is not None
        assert table.aliases == before.routes
        old, new = table.replicas
        assert (old.state, old.versions) == (ReplicaState.STARTING, [])
        assert (new.state, new.has("base"), new.has(champion)) == (ReplicaState.READY, True, True)
        assert rechecks(replace(after, replicas=[make_view(verified=["v1"])])) == [], "an old one is left alone"


def test_once_the_settings_have_moved_on_there_is_no_way_back_to_the_old_base_but_by_its_model() -> None:
    world = moved_on(rollouts=[make_rollout(LAST, is_rollback=True)])
    target, reason = move_of(replace(world, base_revision=NEW, next_base=""))
    assert (target, f"{LAST} was trained on base {OLD}" in (reason or "")) == (R.FAILED, True)


@pytest.mark.parametrize(
    ("state", "ends"), [(R.QUEUED, R.FAILED), (R.REQUESTED, R.FAILED), (R.LOADING, R.FAILED), (R.RUNNING, R.ABORTED)]
)
def test_an_adapter_of_the_old_base_is_not_rolled_out_to_an_alias_that_has_left_it(
    state: RolloutState, ends: RolloutState
) -> None:
    rollout = make_rollout("v2", state, steps=STEPS, from_version=NEXT)
    target, reason = move_of(moved_on(rollouts=[rollout]))
    assert target is ends
    assert reason is not None
    assert f"v2 was trained on base {OLD}, assistant is on {NEW}" in reason


def test_nor_need_its_gates_be_asked() -> None:
    assert misfits(make_both(candidates=["v2", "n1"])) == {}
    assert misfits(moved_on(candidates=["v2", "n1"])).keys() == {"v2"}
    assert misfits(replace(make_both(candidates=["n1"]), next_base="")).keys() == {"n1"}


def test_settings_that_move_on_before_the_flip_end_the_rollout_and_begin_from_no_adapter() -> None:
    rollout = make_rollout(NEXT, R.RUNNING, steps=STEPS, began_at=now())
    world = routed(make_both(rollouts=[rollout]), make_route("v1").stepped(NEXT, "r1", 0, STEPS[0]))
    world = replace(world, base_revision=NEW, next_base="")
    assert move_of(world) == (R.ABORTED, f"assistant starts again on base {NEW}: {OLD} is served no more")
    assert route_after(world) == make_route(base_revision=NEW)


VIEWS = st.builds(
    lambda base, verified, loaded, state, drain, number: ReplicaView(
        make_view(
            name=f"replica-{number}", base_revision=base, versions=sorted(verified), state=state, drain=drain
        ).row,
        loaded,
    ),
    st.sampled_from([OLD, NEW, OTHER, ""]),
    st.frozensets(st.sampled_from(["base", NEXT, "v1", "v2", "n1"])),
    st.none() | st.frozensets(st.sampled_from(["base", "v1", "v2", "n1"])),
    st.sampled_from(ReplicaState),
    st.booleans(),
    st.integers(0, 9),
)
ROLLOUTS = st.builds(
    lambda version, state, step, back, look: make_rollout(
        version, state, steps=STEPS, step=step, began_at=now(), is_rollback=back, look=look
    ),
    st.sampled_from(["v1", "v2", "n1", "base", NEXT, LAST]),
    st.sampled_from(sorted(set(RolloutState) - FINAL_STATES)),
    st.integers(0, 1),
    st.booleans(),
    st.sampled_from([None, Look(at=now(), step=0, verdict=Verdict.PASS, reason="as good")]),
)
ROUTES = st.sampled_from(
    [
        make_route("base"),
        make_route("v1", previous=["v2", "base"]),
        make_route("v1").stepped(NEXT, "r1", 0, STEPS[0]),
        make_route("v1").flipped("n1", "r1", NEW),
        make_route("base").flipped(NEXT, "r1", NEW),
        make_route("v1", base_revision=OTHER),
    ]
)


@settings(deadline=None, max_examples=300)
@given(
    views=st.lists(VIEWS, max_size=4, unique_by=lambda view: view.row.name),
    rollouts=st.lists(ROLLOUTS, max_size=1),
    route=ROUTES,
    following=st.sampled_from([NEW, ""]),
    base=st.sampled_from([OLD, NEW]),
)
def test_whatever_is_so_nothing_is_asked_of_a_base_that_it_was_not_made_for(
    views: list[ReplicaView], rollouts: list[RolloutView], route: AliasRoute, following: str, base: str
) -> None:
    table = make_table(aliases={"assistant": route}, replicas=[view.row for view in views])
    world = World(table, "assistant", base, following if base == OLD else "", MADE, views, rollouts)
    after = planned(world)
    for job in after.jobs:
        assert not isinstance(job, Prepare) or world.base_of(job.version) == job.replica.base_revision
    published = after.table or table
    for replica in published.replicas:
        check_holds_its_own(world, replica)
    for routed_now in published.aliases.values():
        assert routed_now.base_revision in world.bases
        assert world.base_of(routed_now.champion) == routed_now.base_revision
        moved = route.base_revision in world.bases and routed_now.base_revision != route.base_revision
        assert not moved or any(replica.has(routed_now.champion) for replica in published.replicas)


def check_holds_its_own(world: World, replica: Replica) -> None:
    assert {world.base_of(version) for version in replica.versions} <= {replica.base_revision}
    assert not (replica.state is ReplicaState.READY and replica.base_revision not in world.bases)
