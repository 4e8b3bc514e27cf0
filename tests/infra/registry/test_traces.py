from datetime import timedelta

import pytest

from infra.clock import now
from infra.contracts.traces import Question
from infra.ports import Ports
from infra.registry import lineage, traces
from infra.registry.adapters import register, register_dataset
from infra.registry.errors import IllegalTransition, NotFound
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest

QUESTION = Question(response_id="r1", events=True, limit=7)


def test_a_question_waits_until_it_is_answered(ports: Ports) -> None:
    with ports.database.transaction() as session:
        trace_id = traces.request(session, "default", QUESTION).trace_id
    with ports.database.transaction() as session:
        (waiting,) = traces.requested(session)
        assert (waiting.trace_id, Question.model_validate(waiting.question)) == (trace_id, QUESTION)
        traces.answer(session, "default", trace_id, {"kind": "response"})
    with ports.database.reading() as session:
        row = traces.get(session, "default", trace_id)
        assert (row.state, row.answer, row.reason) == ("done", {"kind": "response"}, None)
        assert row.finished_at is not None
        assert traces.requested(session) == []


def test_what_is_answered_is_not_answered_again(ports: Ports) -> None:
    with ports.database.transaction() as session:
        trace_id = traces.request(session, "default", QUESTION).trace_id
        traces.refuse(session, "default", trace_id, "no such answer")
        assert traces.get(session, "default", trace_id).reason == "no such answer"
        with pytest.raises(IllegalTransition, match="not_found to done"):
            traces.answer(session, "default", trace_id, {})


def test_another_tenants_question_is_not_there(ports: Ports) -> None:
    with ports.database.transaction() as session:
        trace_id = traces.request(session, "default", QUESTION).trace_id
        with pytest.raises(NotFound):
            traces.get(session, "acme", trace_id)


def test_what_was_asked_long_ago_is_forgotten_answered_or_not(ports: Ports) -> None:
    with ports.database.transaction() as session:
        old, done, new = (traces.request(session, "default", QUESTION) for _ in "123")
        traces.answer(session, "default", done.trace_id, {})
        for row in (old, done):
            row.requested_at = now() - timedelta(hours=2)
    hour_ago = now() - timedelta(hours=1)
    with ports.database.transaction() as session:
        assert traces.any_before(session, hour_ago)
        assert traces.forget(session, hour_ago) == 2
        assert not traces.any_before(session, hour_ago)
        assert [row.trace_id for row in traces.requested(session)] == [new.trace_id]


def test_a_question_is_about_one_thing() -> None:
    for wrong in ({}, {"response_id": "r1", "event_id": "e1"}):
        with pytest.raises(ValueError, match="one"):
            Question.model_validate(wrong)


def test_datasets_are_found_by_their_window_without_their_manifests(ports: Ports) -> None:
    day = now().replace(hour=0, minute=0, second=0, microsecond=0)
    with ports.database.transaction() as session:
        for name, start in (("early", day - timedelta(days=2)), ("today", day), ("unknown", None)):
            made = make_dataset_manifest(dataset_id=name, window_start=start, counts={"preference": {"train": 3}})
            register_dataset(session, made, f"datasets/{name}")
    with ports.database.reading() as session:

        def found(since: timedelta, latest: timedelta) -> list[str]:
            shelves = lineage.datasets_that_may_hold(session, "default", now() + since, day + latest)
            return [shelf.dataset_id for shelf in shelves]

        hour, tomorrow = timedelta(hours=1), timedelta(days=1)
        assert found(-hour, tomorrow) == ["early", "today", "unknown"]
        assert found(-hour, -tomorrow) == ["early", "unknown"]
        assert found(hour, tomorrow) == []
        (shelf,) = lineage.datasets_behind(session, "default", {"dataset_ids": ["today"]})
        assert (shelf.path, shelf.rows) == ("datasets/today", {"preference": {"train": 3}})
        assert lineage.datasets_that_may_hold(session, "acme", now() - hour, day + tomorrow) == []


def test_a_dataset_of_the_same_rows_is_taken_only_where_none_is_named(ports: Ports) -> None:
    with ports.database.transaction() as session:
        for name in ("first", "again"):
            register_dataset(session, make_dataset_manifest(dataset_id=name, sha256="a" * 64), name)
    with ports.database.reading() as session:

        def behind(**manifest: object) -> list[str]:
            return [shelf.dataset_id for shelf in lineage.datasets_behind(session, "default", manifest)]

        assert behind(dataset_ids=["first"], dataset_sha256=["a" * 64]) == ["first"]
        assert sorted(behind(dataset_sha256=["a" * 64])) == ["again", "first"]


def test_versions_of_a_dataset_are_known_by_its_id_or_its_hash(ports: Ports) -> None:
    with ports.database.transaction() as session:
        register(session, make_adapter_manifest(version="v1", dataset_ids=["d1"], dataset_sha256=["b" * 64]), "a/v1")
        register(session, make_adapter_manifest(version="v2", dataset_ids=[], dataset_sha256=["c" * 64]), "a/v2")
    with ports.database.reading() as session:
        rows = lineage.versions_since(session, "default", now() - timedelta(hours=1))
        named = lineage.Named({"d1"}, {"c" * 64})
        assert [row.version for row in rows if named.in_manifest(row.manifest)] == ["v1", "v2"]
        assert not any(lineage.Named(set(), {"d" * 64}).in_manifest(row.manifest) for row in rows)
        assert lineage.versions_since(session, "default", now() + timedelta(hours=1)) == []
