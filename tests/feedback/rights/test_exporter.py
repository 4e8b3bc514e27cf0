"""An export holds every event and every derived row of one person, and is not kept."""

import json
from datetime import timedelta
from typing import Any

from feedback.holding import alone
from feedback.rights.exporter import KEPT, LEASE, Exporter
from feedback.rights.portrait import Portrait
from infra.clock import now
from infra.database.tables import ExportRow
from infra.registry import exports, leases
from infra.registry.exports import ExportState
from tests.support.cases import make_case_maker
from tests.support.cases import wish as wish_for_case
from tests.support.events import TENANT
from tests.support.feedback import Room
from tests.support.people import HERS, MIA, mias_day, others_day


def make_exporter(room: Room) -> Exporter:
    return Exporter(room.database, room.sealer, room.artifacts, lease_ttl_s=5.0)


def lived(room: Room) -> str:
    room.append([*mias_day(), *others_day()])
    room.consume()
    return room.build(as_of=now()).dataset_id


def portrait(room: Room, rater: str = MIA) -> list[dict[str, Any]]:
    return list(Portrait(room.database, room.sealer, room.artifacts, TENANT, rater).lines())


def wish(room: Room, rater: str = MIA) -> ExportRow:
    with room.database.transaction() as session:
        return exports.request(session, TENANT, rater, "test")


def stored(room: Room, row: ExportRow) -> ExportRow:
    with room.database.reading() as session:
        return exports.get(session, TENANT, row.export_id)


def test_every_event_is_there_with_its_body_opened(room: Room) -> None:
    lived(room)
    lines = portrait(room)
    bodies = {line["event_id"]: line["body"] for line in lines if line["kind"] in ("inference", "feedback")}
    assert len(bodies) == 8
    for word in HERS:
        assert any(word in json.dumps(body) for body in bodies.values())
    assert not any("sealed" in line for line in lines)


def test_every_derived_row_is_there(room: Room) -> None:
    dataset_id = lived(room)
    lines = portrait(room)
    kinds = [line["kind"] for line in lines]
    assert (kinds.count("choice"), kinds.count("vote")) == (4, 4)
    rows = [line for line in lines if line["kind"] == "dataset_row"]
    assert {row["dataset_id"] for row in rows} == {dataset_id}
    assert {row["table"] for row in rows} == {"preference", "demonstrations", "prompts"}
    assert all(row.get("pair_id") or row.get("prompt_id") for row in rows)
    assert all(vote["targets"] for vote in lines if vote["kind"] == "vote")


def test_cases_made_of_their_answers_are_there(room: Room) -> None:
    lived(room)
    for name, response_id in (("hers", "mia0a"), ("others", "other0a")):
        wish_for_case(room.database, room.sealer, response_id, name=name)
    make_case_maker(room).turn()
    (case,) = [line for line in portrait(room) if line["kind"] == "regression_case"]
    assert (case["name"], case["response_id"]) == ("hers", "mia0a")
    assert HERS[0] in json.dumps(case["body"])


def test_nobody_elses_events_are_there(room: Room) -> None:
    lived(room)
    assert {line["rater"] for line in portrait(room) if "rater" in line} == {MIA}


def test_a_stranger_gets_the_head_line_only(room: Room) -> None:
    lived(room)
    assert [line["kind"] for line in portrait(room, "nobody")] == ["export"]


def test_after_an_erasure_only_the_tombstone_is_left(room: Room) -> None:
    lived(room)
    room.erase(MIA)
    room.consume()
    room.eraser().turn()
    assert [line["kind"] for line in portrait(room)] == ["export", "erasure"]


def test_a_wish_is_fulfilled_as_json_lines(room: Room) -> None:
    lived(room)
    row = wish(room)
    assert make_exporter(room).turn() == 1
    found = stored(room, row)
    assert (found.state, found.path) == ("ready", f"exports/{TENANT}/{row.export_id}.jsonl")
    assert found.path is not None
    lines = [json.loads(line) for line in room.artifacts.read(found.path).splitlines()]
    assert [line["kind"] for line in lines] == [line["kind"] for line in portrait(room)]


def test_asking_again_is_the_same_wish_until_it_is_fetched(room: Room) -> None:
    first = wish(room)
    assert wish(room).export_id == first.export_id
    with room.database.transaction() as session:
        exports.move(session, TENANT, first.export_id, ExportState.GONE)
    assert wish(room).export_id != first.export_id


def test_what_nobody_fetched_is_removed_after_an_hour(room: Room) -> None:
    row = wish(room)
    exporter = make_exporter(room)
    exporter.turn()
    assert exporter.turn() == 0
    assert stored(room, row).state == "ready"
    with room.database.transaction() as session:
        exports.get(session, TENANT, row.export_id).finished_at = now() - KEPT - timedelta(seconds=1)
    exporter.turn()
    assert (stored(room, row).state, stored(room, row).path) == ("gone", None)
    assert room.artifacts.names(f"exports/{TENANT}") == []


def test_whoever_is_erased_while_the_export_is_written_gets_none(room: Room) -> None:
    lived(room)
    row, exporter = wish(room), make_exporter(room)
    room.erase(MIA)
    room.consume()
    path = f"exports/{TENANT}/{row.export_id}.jsonl"
    room.artifacts.write(path, b"{}")
    with alone(room.database, LEASE, 60) as lease:
        assert lease is not None
        assert exporter._finish(lease, row, path, erased=0) is False
    assert stored(room, row).state == "gone"
    assert not room.artifacts.exists(path)


def test_while_another_process_exports_nothing_is_done(room: Room) -> None:
    wish(room)
    with room.database.transaction() as session:
        leases.acquire(session, "exporter", "another", 60)
    assert make_exporter(room).turn() == 0
