"""Cycles that start by themselves: at a threshold, on a schedule, never two at once for one alias."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from infra.clock import now
from infra.ports import Ports
from infra.registry import audit, cycles, fleet, leases
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict
from infra.registry.fleet import Counts
from infra.settings import TrainerSettings
from tests.support.cycles import hold, make_cycle
from tests.support.home import make_ports
from trainer import triggers
from trainer.sweep import sweep, unheld
from trainer.triggers import Standing, reason_to_start


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def make_standing(**overrides: object) -> Standing:
    fields: dict[str, object] = {
        "tenant": "default",
        "alias": "assistant",
        "counts": Counts(pairs=500),
        "before": Counts(pairs=300),
        "last_at": now(),
    }
    return Standing(**{**fields, **overrides})  # type: ignore[arg-type]


def set_pairs(ports: Ports, pairs: int, alias: str = "assistant", thumbs: int = 0) -> None:
    with ports.database.transaction() as session:
        fleet.set_counts(session, "default", alias, pairs=pairs, thumbs=thumbs)


def end(ports: Ports, cycle_id: str, state: CycleState = CycleState.FAILED) -> None:
    lease = hold(ports, cycle_id)
    with ports.database.transaction() as session:
        cycles.advance(session, lease, cycle_id, state)
        leases.release(session, lease)


def test_enough_new_pairs_are_a_reason() -> None:
    assert reason_to_start(make_standing(), TrainerSettings(threshold_pairs=200), now()) is not None
    assert reason_to_start(make_standing(), TrainerSettings(threshold_pairs=201), now()) is None


def test_too_few_pairs_in_all_are_no_reason_however_new() -> None:
    standing = make_standing(counts=Counts(pairs=40), before=Counts())
    assert reason_to_start(standing, TrainerSettings(threshold_pairs=10, min_pairs=50), now()) is None


def make_thumbs(new: int = 100, pairs: int = 0) -> Standing:
    return make_standing(counts=Counts(pairs, thumbs=200), before=Counts(pairs, thumbs=200 - new))


def test_enough_new_thumbs_are_a_reason_for_kto_though_there_is_no_pair() -> None:
    due, early = (TrainerSettings(method="kto", threshold_thumbs=threshold) for threshold in (100, 101))
    assert reason_to_start(make_thumbs(), due, now()) == "100 new thumbs, the threshold is 100"
    assert reason_to_start(make_thumbs(), early, now()) is None


def test_too_few_thumbs_in_all_are_no_reason_however_new() -> None:
    settings = TrainerSettings(method="kto", threshold_thumbs=10, min_thumbs=201)
    assert reason_to_start(make_thumbs(new=200), settings, now()) is None


def test_thumbs_start_no_cycle_of_a_method_that_learns_from_pairs() -> None:
    settings = TrainerSettings(method="dpo", threshold_thumbs=10, schedule_s=1)
    assert reason_to_start(make_thumbs(pairs=500), settings, now() + timedelta(days=1)) is None


def test_new_pairs_start_no_cycle_of_kto() -> None:
    settings = TrainerSettings(method="kto", threshold_pairs=1, schedule_s=1)
    assert reason_to_start(make_standing(), settings, now() + timedelta(days=1)) is None


def test_auto_starts_on_new_pairs_or_on_new_thumbs() -> None:
    settings = TrainerSettings(method="auto", threshold_pairs=200, threshold_thumbs=100)
    assert reason_to_start(make_standing(), settings, now()) == "200 new pairs, the threshold is 200"
    assert reason_to_start(make_thumbs(), settings, now()) == "100 new thumbs, the threshold is 100"


def test_a_schedule_of_kto_waits_for_new_thumbs() -> None:
    settings, later = TrainerSettings(method="kto", schedule_s=60), now() + timedelta(seconds=61)
    assert reason_to_start(make_thumbs(new=1), settings, later) == "scheduled every 60 s"
    assert reason_to_start(make_thumbs(new=0), settings, later) is None


def test_a_schedule_is_due_once_its_time_has_passed() -> None:
    settings = TrainerSettings(schedule_s=3600)
    assert reason_to_start(make_standing(), settings, now() + timedelta(seconds=3599)) is None
    assert reason_to_start(make_standing(), settings, now() + timedelta(seconds=3601)) == "scheduled every 3600 s"


def test_a_schedule_with_nothing_new_to_learn_waits() -> None:
    standing = make_standing(counts=Counts(pairs=300))
    assert reason_to_start(standing, TrainerSettings(schedule_s=1), now() + timedelta(days=1)) is None


def test_a_first_cycle_is_due_at_once() -> None:
    assert reason_to_start(make_standing(before=Counts(), last_at=None), TrainerSettings(schedule_s=60), now())


def test_the_threshold_queues_a_cycle_with_its_reason(ports: Ports) -> None:
    set_pairs(ports, 120)
    assert triggers.fire(ports.database, TrainerSettings(threshold_pairs=100)) == ["1"]
    with ports.database.reading() as session:
        row = cycles.get(session, "1")
    assert (row.trigger, row.state) == ("schedule", CycleState.QUEUED)


def test_two_never_run_at_once_for_one_alias(ports: Ports) -> None:
    set_pairs(ports, 1000)
    settings = TrainerSettings(schedule_s=0.001, threshold_pairs=1)
    assert triggers.fire(ports.database, settings) == ["1"]
    set_pairs(ports, 2000)
    assert triggers.fire(ports.database, settings) == []


def test_of_many_triggers_at_the_same_moment_one_starts_a_cycle(ports: Ports) -> None:
    """By hand, by schedule and by the API at once: each sees the others' cycle or waits for it."""
    at_once, outcomes = threading.Barrier(8), []

    def press() -> None:
        at_once.wait()
        try:
            with ports.database.transaction() as session:
                outcomes.append(cycles.trigger(session, tenant="default", alias="assistant", actor="test").cycle_id)
        except Conflict:
            outcomes.append("refused")

    pressing = [threading.Thread(target=press) for _ in range(8)]
    for thread in pressing:
        thread.start()
    for thread in pressing:
        thread.join()
    assert sorted(outcomes) == ["1", *["refused"] * 7]


def test_a_cycle_started_by_hand_holds_the_schedule_back_until_it_ends(ports: Ports) -> None:
    settings = TrainerSettings(threshold_pairs=1)
    by_hand = make_cycle(ports)
    set_pairs(ports, 500)
    assert triggers.fire(ports.database, settings) == []
    end(ports, by_hand)
    assert triggers.fire(ports.database, settings) == ["2"]


def test_a_schedule_queues_a_cycle_and_the_sweep_is_what_looks_for_it(tmp_path: Path) -> None:
    made = make_ports(tmp_path / "scheduled", THUMBWHEEL_TRAINER__SCHEDULE_S="3600")
    set_pairs(made, 500)
    assert sweep(made, lambda _: None) == []  # queued cycles are the feedback room's first
    with made.database.reading() as session:
        [row] = cycles.list_cycles(session, "default")
        [entry] = audit.list_entries(session, "default", subject=row.cycle_id)
    assert (row.state, row.trigger) == (CycleState.QUEUED, "schedule")
    assert entry.reason == "scheduled every 3600 s"
    assert sweep(made, lambda _: None) == []
    made.close()


def test_another_alias_has_cycles_of_its_own(ports: Ports) -> None:
    set_pairs(ports, 1000)
    set_pairs(ports, 1000, alias="other")
    assert len(triggers.fire(ports.database, TrainerSettings(threshold_pairs=1))) == 2


def test_pairs_are_new_since_the_last_cycle_however_it_ended(ports: Ports) -> None:
    settings = TrainerSettings(threshold_pairs=100)
    set_pairs(ports, 120)
    [cycle_id] = triggers.fire(ports.database, settings)
    end(ports, cycle_id)
    set_pairs(ports, 210)
    assert triggers.fire(ports.database, settings) == []
    set_pairs(ports, 220)
    assert triggers.fire(ports.database, settings) == ["2"]


def test_thumbs_are_new_since_the_last_cycle_however_it_ended(ports: Ports) -> None:
    settings = TrainerSettings(method="kto", threshold_thumbs=100)
    set_pairs(ports, 0, thumbs=120)
    [cycle_id] = triggers.fire(ports.database, settings)
    end(ports, cycle_id)
    set_pairs(ports, 0, thumbs=219)
    assert triggers.fire(ports.database, settings) == []
    set_pairs(ports, 0, thumbs=220)
    assert triggers.fire(ports.database, settings) == ["2"]


def test_without_threshold_and_schedule_nothing_starts_by_itself(ports: Ports) -> None:
    set_pairs(ports, 10_000)
    assert triggers.fire(ports.database, TrainerSettings()) == []


def test_the_sweep_starts_what_is_the_trainers_and_nobodys(ports: Ports) -> None:
    free, held, queued = (
        make_cycle(ports),
        make_cycle(ports, alias="b"),
        make_cycle(ports, alias="c", state=CycleState.QUEUED),
    )
    hold(ports, held)
    started: list[str] = []
    assert sweep(ports, started.append) == [free]
    assert started == [free]
    assert queued not in started


def test_the_sweep_finds_a_cycle_whose_holder_went_silent(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    hold(ports, cycle_id, ttl_s=0)
    with ports.database.reading() as session:
        assert unheld(session) == [cycle_id]
