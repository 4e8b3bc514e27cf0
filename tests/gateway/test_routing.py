import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import EngineAway, EngineBroke, EngineFailed, GatewayError, NotFound, Unavailable
from gateway.routing import AVOID_S, PINNED, SLACK, Router, draw, spread
from infra.clock import now
from infra.contracts.rollouts import Step, StepKind
from infra.contracts.routing import (
    AliasRoute,
    Arm,
    Replica,
    ReplicaState,
    RoutingTable,
    WeightedVersion,
    base_version,
)
from infra.identity import Identity
from tests.support.routing import make_table
from tests.support.stack import make_replica, make_route

IDENTITY = Identity(b"secret")


def make_router(
    weights: dict[str, float] | None = None,
    *,
    replicas: list[Replica] | None = None,
    salt: str = "salt",
    **route: list[str],
) -> Router:
    weights = weights or {"v1": 1.0}
    router = Router(IDENTITY.fraction)
    given = [make_replica("r0", "http://a", ["v1", "v2", "old"])] if replicas is None else replicas
    aliases = {"assistant": make_route(weights, salt=salt, **route)}
    router.apply(RoutingTable(revision=3, issued_at=now(), aliases=aliases, replicas=given))
    return router


def test_before_the_first_table_nothing_is_served() -> None:
    with pytest.raises(Unavailable):
        Router(IDENTITY.fraction).choose("assistant", "ann")


def test_the_alias_resolves_to_its_version() -> None:
    target = make_router().choose("assistant", "ann")
    assert (target.version, target.arm, target.propensity, target.revision) == ("v1", "champion", 1.0, 3)


def test_one_person_meets_the_same_version_every_time() -> None:
    router = make_router({"v1": 0.5, "v2": 0.5})
    for person in map(str, range(20)):
        assert len({router.choose("assistant", person).version for _ in range(5)}) == 1


def test_people_are_shared_out_by_weight() -> None:
    router = make_router({"v1": 0.9, "v2": 0.1})
    drawn = Counter(router.choose("assistant", str(person)).version for person in range(4000))
    assert 300 < drawn["v2"] < 500


def test_another_salt_shares_people_out_anew() -> None:
    first, second = make_router({"v1": 0.5, "v2": 0.5}), make_router({"v1": 0.5, "v2": 0.5}, salt="other")
    moved = [
        first.choose("assistant", str(p)).version != second.choose("assistant", str(p)).version for p in range(200)
    ]
    assert 50 < sum(moved) < 150


def test_the_propensity_is_the_weight_of_what_was_drawn() -> None:
    router = make_router({"v1": 0.75, "v2": 0.25})
    for person in map(str, range(30)):
        target = router.choose("assistant", person)
        assert target.propensity == {"v1": 0.75, "v2": 0.25}[target.version]


def test_weights_that_round_below_one_still_place_everybody() -> None:
    versions = [WeightedVersion(version=name, arm=Arm.CHALLENGER, weight=1 / 3 - 1e-9) for name in "abc"]
    assert draw([*versions, WeightedVersion(version="off", arm=Arm.CHALLENGER, weight=0)], 1 - 1e-12).version == "c"


def test_a_table_that_has_grown_old_sends_everybody_to_its_champion() -> None:
    router = make_router({"v1": 0.5, "v2": 0.5})
    router.stale = True
    assert {router.choose("assistant", str(person)).version for person in range(50)} == {"v1"}


def test_a_version_that_is_routed_now_may_be_asked_for() -> None:
    target = make_router({"v1": 0.9, "v2": 0.1}).choose("v2", "ann")
    assert (target.version, target.arm, target.propensity) == ("v2", PINNED, 1.0)


@pytest.mark.parametrize("name", ["nothing", "old", "base", "train-1-2"])
def test_other_names_do_not_exist_for_a_client(name: str) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        make_router(previous=["old"]).choose(name, "ann")


def test_an_operator_may_ask_for_what_is_still_loaded() -> None:
    replicas = [make_replica("r0", "http://a", ["v1", "assistant-7-abcdef12"])]
    router = make_router(previous=["old"], replicas=replicas)
    for name in ("old", "base", "assistant-7-abcdef12"):
        assert router.choose(name, "ann", admin=True).version == name


def test_an_adapter_under_training_is_nobodys_to_ask_for() -> None:
    router = make_router(replicas=[make_replica("r0", "http://a", ["v1", "train-1-2"])])
    with pytest.raises(NotFound):
        router.choose("train-1-2", "ann", admin=True)


def names(router: Router, version: str = "v1") -> list[str]:
    return [replica.name for replica in router.replicas(version)]


def crowd(*replicas: str) -> list[Replica]:
    return [make_replica(name, f"http://{name}", ["v1", "v2", "v3"]) for name in replicas]


def test_the_least_busy_replica_comes_first() -> None:
    first, second = crowd("r0", "r1")
    assert [r.name for r in spread([first, second], {"r0": 5, "r1": 2}, "v1")] == ["r1", "r0"]
    assert [r.name for r in spread([first, second], {"r0": 2, "r1": 5}, "v1")] == ["r0", "r1"]


def test_among_those_hardly_busier_than_the_idlest_a_version_goes_where_it_is_at_home() -> None:
    replicas = crowd("r0", "r1", "r2")
    home = spread(replicas, {}, "v1")[0].name
    assert spread(replicas, {home: SLACK}, "v1")[0].name == home
    assert spread(replicas, {home: SLACK + 1}, "v1")[0].name != home


def test_versions_are_at_home_on_different_replicas_and_stay_there_when_another_replica_comes() -> None:
    versions = [f"v{number}" for number in range(300)]
    before = {version: spread(crowd("r0", "r1", "r2"), {}, version)[0].name for version in versions}
    after = {version: spread(crowd("r0", "r1", "r2", "r3"), {}, version)[0].name for version in versions}
    assert all(60 < count < 140 for count in Counter(before.values()).values())
    assert {after[version] for version in versions if after[version] != before[version]} == {"r3"}


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6))
@settings(deadline=None)
def test_whoever_is_asked_first_is_within_the_slack_of_the_idlest(busy: list[int]) -> None:
    replicas = crowd(*(f"r{number}" for number in range(len(busy))))
    outstanding = {replica.name: count for replica, count in zip(replicas, busy, strict=True)}
    found = spread(replicas, outstanding, "v1")
    assert outstanding[found[0].name] <= min(busy) + SLACK
    assert {replica.name for replica in found} == outstanding.keys()


def test_what_is_under_way_at_a_replica_counts_until_it_has_ended() -> None:
    router = make_router(replicas=crowd("r0", "r1"))
    home = router.replicas("v1")[0]
    with router.occupying(home), router.occupying(home):
        assert names(router)[0] != home.name
    assert names(router)[0] == home.name


@pytest.mark.parametrize("error", [EngineAway("no connection"), EngineBroke("broke off")])
def test_a_replica_that_failed_a_moment_ago_is_asked_last_and_then_like_any_other(
    error: GatewayError, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = make_router(replicas=crowd("r0", "r1"))
    home = router.replicas("v1")[0]
    with pytest.raises(type(error)), router.occupying(home):
        raise error
    assert names(router)[-1] == home.name
    at = time.monotonic()
    monkeypatch.setattr("gateway.routing.time.monotonic", lambda: at + AVOID_S)
    assert names(router)[0] == home.name


def test_a_request_that_was_at_fault_itself_is_not_held_against_its_replica() -> None:
    router = make_router(replicas=crowd("r0", "r1"))
    home = router.replicas("v1")[0]
    with pytest.raises(EngineFailed), router.occupying(home):
        raise EngineFailed("the engine failed on this request")
    assert names(router)[0] == home.name


def test_only_ready_replicas_that_have_the_version_are_asked() -> None:
    replicas = [
        make_replica("starting", "http://a", ["v1"], ReplicaState.STARTING),
        make_replica("without", "http://b", ["base"]),
        make_replica("with", "http://c", ["base", "v1"]),
    ]
    router = make_router(replicas=replicas)
    assert [replica.name for replica in router.replicas("v1")] == ["with"]
    assert [replica.name for replica in router.replicas("base")] == ["without", "with"]


def test_what_is_under_way_is_counted_by_version() -> None:
    router = make_router()
    with router.counting("v1"), router.counting("v1"), router.counting("v2"):
        assert router.in_flight == {"v1": 2, "v2": 1}
    assert not router.in_flight


def test_an_answer_is_rerouted_to_the_champion_of_the_table_in_use_by_then() -> None:
    router = make_router({"v1": 1.0})
    target = router.choose("assistant", "ann")
    router.apply(RoutingTable(revision=4, issued_at=now(), aliases={"assistant": make_route({"v2": 1.0})}, replicas=[]))
    moved = router.champion(target)
    assert (moved.version, moved.arm, moved.revision) == ("v2", "champion", 4)


def test_an_alias_that_is_gone_cannot_be_rerouted() -> None:
    router = make_router()
    target = router.choose("assistant", "ann")
    router.apply(RoutingTable(revision=4, issued_at=now(), aliases={}, replicas=[]))
    with pytest.raises(Unavailable):
        router.champion(target)


def stepping(share: float, step: int = 1) -> RoutingTable:
    """A rollout of v2 at a step of this share, champion v1."""
    route = make_route({"v1": 1.0}).stepped("v2", "r1", step, Step(share=share))
    return make_table(aliases={"assistant": route})


def test_a_growing_share_keeps_everybody_who_is_in_it() -> None:
    router, units = Router(IDENTITY.fraction), [f"rater-{i}" for i in range(2_000)]
    inside: set[str] = set()
    for step, share in enumerate((0.01, 0.05, 0.25, 0.5)):
        router.apply(stepping(share, step))
        now_inside = {unit for unit in units if router.choose("assistant", unit).version == "v2"}
        assert inside <= now_inside
        assert len(now_inside) / len(units) == pytest.approx(share, abs=4 * (share * (1 - share) / len(units)) ** 0.5)
        inside = now_inside


def test_each_answer_of_a_rollout_carries_its_step_and_its_exact_propensity() -> None:
    router = Router(lambda _salt, unit: float(unit))
    router.apply(stepping(0.25, step=3))
    champion, challenger = router.choose("assistant", "0.74"), router.choose("assistant", "0.76")
    assert (champion.version, champion.arm, champion.propensity) == ("v1", "champion", 0.75)
    assert (challenger.version, challenger.arm, challenger.propensity) == ("v2", "challenger", 0.25)
    assert {champion.rollout_step, challenger.rollout_step} == {3}


def test_who_takes_no_part_gets_the_champion_and_is_no_evidence() -> None:
    router = Router(lambda _salt, _unit: 0.99)
    router.apply(stepping(0.5))
    target = router.choose("assistant", "ada", takes_part=False)
    assert (target.version, target.arm, target.propensity, target.rollout_step) == ("v1", "opted_out", 1.0, None)


def test_what_a_stale_table_sends_to_the_champion_is_no_evidence() -> None:
    router = Router(lambda _salt, _unit: 0.99)
    router.apply(stepping(0.5))
    router.stale = True
    target = router.choose("assistant", "ada")
    assert (target.version, target.propensity, target.rollout_step) == ("v1", 1.0, None)


def test_a_pinned_version_is_never_diverted() -> None:
    router = Router(lambda _salt, _unit: 0.99)
    router.apply(stepping(0.5))
    target = router.choose("v1", "ada")
    assert (target.version, target.arm, target.rollout_step) == ("v1", "pinned", None)


def test_a_shadow_takes_no_traffic() -> None:
    router = Router(lambda _salt, _unit: 0.99)
    route = make_route({"v1": 1.0}).stepped("v2", "r1", 0, Step(kind=StepKind.SHADOW, share=1.0))
    router.apply(make_table(aliases={"assistant": route}))
    assert router.choose("assistant", "ada").version == "v1"
    assert route.mirrors == {"v2": 1.0}


def test_the_last_answer_of_a_version_left_behind_is_news_and_one_of_a_version_in_use_is_not() -> None:
    router = make_router({"v1": 1.0})
    router.news.clear()
    with router.counting("v1"), router.counting("v0"):
        with router.counting("v0"):
            pass
        assert not router.news.is_set(), "another answer of it is still under way"
    assert router.news.is_set()
    router.news.clear()
    with router.counting("v1"):
        pass
    assert not router.news.is_set()


def test_a_table_that_was_applied_is_news() -> None:
    assert make_router().news.is_set()


def pairing(pairs: float = 1.0, share: float = 0.1) -> RoutingTable:
    route = make_route({"v1": 1.0}).stepped("v2", "r1", 2, Step(share=share, pairs=pairs))
    return make_table(aliases={"assistant": route})


def test_a_pair_has_a_side_of_each_arm_whose_place_was_drawn_by_a_coin() -> None:
    router = Router(IDENTITY.fraction)
    router.apply(pairing())
    pair = router.pair("assistant", "chatcmpl-1")
    assert pair is not None
    assert (pair.version, pair.arm, pair.rollout_id, pair.rollout_step) == ("v1", "pair", "r1", 2)
    assert sorted((side.version, side.arm, side.propensity) for side in pair.sides) == [
        ("v1", "champion", 0.5),
        ("v2", "challenger", 0.5),
    ]
    assert [pair.side(index) for index in (0, 1)] == list(pair.sides)
    assert router.pair("assistant", "chatcmpl-1") == pair


def test_pairs_and_their_places_are_drawn_apart_from_each_other_and_from_the_arm() -> None:
    router, ids = Router(IDENTITY.fraction), [f"chatcmpl-{i}" for i in range(4_000)]
    router.apply(pairing(pairs=0.5, share=0.5))
    drawn = Counter(
        (
            pair.sides[0].version if (pair := router.pair("assistant", i)) else None,
            router.choose("assistant", i).version,
        )
        for i in ids
    )
    for arm in ("v1", "v2"):
        assert drawn[None, arm] / len(ids) == pytest.approx(0.25, abs=0.035)  # five standard errors
        for first in ("v1", "v2"):
            assert drawn[first, arm] / len(ids) == pytest.approx(0.125, abs=0.027)


def test_without_a_challenger_or_a_fresh_table_nothing_is_paired() -> None:
    router = Router(lambda _salt, _unit: 0.0)
    router.apply(stepping(0.5))
    assert router.pair("assistant", "r") is None  # the step has no pairs
    router.apply(pairing())
    assert router.pair("v1", "r") is None  # pinned
    router.stale = True
    assert router.pair("assistant", "r") is None


def shadowing(share: float, step: int = 0) -> RoutingTable:
    route = make_route({"v1": 1.0}).stepped("v2", "r1", step, Step(kind=StepKind.SHADOW, share=share))
    return make_table(aliases={"assistant": route})


def test_the_same_people_are_mirrored_every_time_and_more_of_them_as_the_share_grows() -> None:
    router, units = Router(IDENTITY.fraction), [f"rater-{i}" for i in range(2_000)]
    inside: set[str] = set()
    for share in (0.1, 0.5):
        router.apply(shadowing(share))
        shown = router.choose("assistant", "anybody")
        mirrored = {unit for unit in units if router.mirrors(shown, unit)}
        assert inside <= mirrored
        assert len(mirrored) / len(units) == pytest.approx(share, abs=5 * (share * (1 - share) / len(units)) ** 0.5)
        inside = mirrored


def test_a_mirror_carries_its_step_and_its_share() -> None:
    router = Router(lambda _salt, _unit: 0.0)
    router.apply(shadowing(0.25, step=1))
    (mirror,) = router.mirrors(router.choose("assistant", "ada"), "ada")
    assert (mirror.version, mirror.arm, mirror.propensity) == ("v2", "shadow", 0.25)
    assert (mirror.rollout_id, mirror.rollout_step, mirror.sides) == ("r1", 1, ())


def test_what_is_no_evidence_is_not_mirrored() -> None:
    router = Router(lambda _salt, _unit: 0.0)
    router.apply(shadowing(1.0))
    shown = router.choose("assistant", "ada")
    assert not router.mirrors(router.choose("assistant", "ada", takes_part=False), "ada")
    assert not router.mirrors(router.choose("v1", "ada"), "ada")
    router.apply(shadowing(1.0, step=1))
    assert not router.mirrors(shown, "ada")  # it was answered in the step before
    router.apply(shadowing(1.0))
    router.stale = True
    assert not router.mirrors(shown, "ada")


def test_all_versions_of_a_pair_are_counted() -> None:
    router = make_router()
    with router.counting("v1", "v2"), router.counting("v1"):
        assert router.in_flight == {"v1": 2, "v2": 1}
    assert router.in_flight == {}


OLD, NEW = "0123456789ab", "fedcba987654"
NEXT = base_version(NEW)


def two_bases(route: AliasRoute) -> Router:
    """An old replica and one of the next base, whose engine has a name of its own for it."""
    old = make_replica("old", "http://a", ["base", "v1"]).model_copy(update={"base_revision": OLD})
    new = make_replica("new", "http://b", [NEXT, "n1"])
    new = new.model_copy(update={"base_revision": NEW, "served_model": "theirs"})
    router = Router(lambda _salt, _unit: 0.99)
    router.apply(make_table(aliases={"assistant": route}, replicas=[old, new]))
    return router


@pytest.mark.parametrize(
    ("version", "replica", "called"),
    [("base", "old", "base"), (base_version(OLD), "old", "base"), ("v1", "old", "v1"), (NEXT, "new", "theirs"),
     ("n1", "new", "n1")],
)  # fmt: skip
def test_a_version_is_asked_only_of_replicas_of_its_base_by_the_name_that_they_know(
    version: str, replica: str, called: str
) -> None:
    [found] = two_bases(make_table().aliases["assistant"]).replicas(version)
    assert (found.name, found.name_of(version)) == (replica, called)


def test_an_answer_of_the_next_base_says_so_while_the_alias_is_on_the_old_one() -> None:
    route = make_table(champion="v1").aliases["assistant"].stepped(NEXT, "r1", 0, Step(share=0.5, pairs=1.0))
    router = two_bases(route)
    drawn = router.choose("assistant", "ada")
    assert (drawn.version, drawn.base_revision) == (NEXT, NEW)
    assert router.champion(drawn).base_revision == OLD
    pair = router.pair("assistant", "chatcmpl-1")
    assert pair is not None
    assert {(side.version, side.base_revision) for side in pair.sides} == {("v1", OLD), (NEXT, NEW)}
    assert pair.base_revision == f"{OLD}+{NEW}"


def test_an_operator_may_ask_the_next_base_before_any_user_does() -> None:
    router = two_bases(make_table(champion="v1").aliases["assistant"])
    assert router.choose(NEXT, "ada", admin=True).base_revision == NEW
    with pytest.raises(NotFound):
        router.choose(NEXT, "ada")
