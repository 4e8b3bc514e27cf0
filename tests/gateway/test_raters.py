"""A person's rights over HTTP: erased once durable, followed by a handle, exported as JSON lines."""

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from sqlalchemy import select

from infra.clock import now
from infra.contracts.events import ERASURE_TOPIC, Envelope, Erasure, Inference
from infra.database.tables import AuditRow, ErasureRow
from infra.erasure import make_wish
from infra.registry import erasures, exports
from infra.registry.exports import ExportState
from infra.registry.keys import Scope
from infra.sealing import KeyDestroyed
from tests.gateway.test_votes import refuse_appends
from tests.support.scene import Scene, eventually, open_scene


async def asked(scene: Scene, method: str, path: str, *scopes: Scope, tenant: str = "default") -> httpx.Response:
    key = scene.stack.add_key(*(scopes or (Scope.RATERS,)), tenant=tenant, name=f"{path} {method}")
    return await scene.http.request(method, path, headers={"Authorization": f"Bearer {key}"})


def erasure_events(scene: Scene) -> list[tuple[Envelope, Erasure]]:
    sealer = scene.stack.ports.sealer
    return [(envelope, sealer.open(envelope, Erasure)) for envelope in scene.stack._envelopes(ERASURE_TOPIC)]


def hashed(scene: Scene, user: str) -> str:
    return scene.stack.ports.identity.rater("default", user)


async def test_an_erasure_is_on_the_log_and_the_key_destroyed_when_it_is_acknowledged(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.inference(await scene.answer_id(user="mia"))
        ((envelope, body),) = scene.stack.inference_events()
        assert body.request
        answer = await asked(scene, "DELETE", "/v1/raters/mia")
        assert (answer.status_code, answer.json()["state"], answer.json()["stored"]) == (202, "accepted", "log")
        ((erasing, said),) = erasure_events(scene)
        assert (said.rater, erasing.rater, erasing.event_id) == (hashed(scene, "mia"), None, said.erasure_id)
        assert scene.stack.ports.identity.erasure_id("default", answer.json()["erasure_id"]) == said.erasure_id
        assert envelope.occurred_at < said.up_to <= now()
        with pytest.raises(KeyDestroyed):
            scene.stack.ports.sealer.open(envelope, Inference)


async def test_what_the_person_does_next_has_a_new_key(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.inference(await scene.answer_id(user="mia"))
        await asked(scene, "DELETE", "/v1/raters/mia")
        response_id = await scene.answer_id(user="mia")
        key_ids: list[str] = []

        def both() -> bool:
            key_ids[:] = [e.key_id for e in scene.stack._envelopes("thumbwheel.inference.v1")]
            return len(key_ids) == 2

        await eventually(both)
        assert len(set(key_ids)) == 2
        assert response_id


@pytest.mark.parametrize("user", ["mia", "mia@example.org", "Mia Müller", "team/mia", "100%"])
async def test_any_name_that_a_chat_may_carry_can_be_erased(tmp_path: Path, user: str) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await asked(scene, "DELETE", f"/v1/raters/{quote(user, safe='')}")).status_code == 202
        assert erasure_events(scene)[0][1].rater == hashed(scene, user)


async def test_an_export_is_not_deleted(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await asked(scene, "DELETE", "/v1/raters/mia/export")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert erasure_events(scene) == []


async def test_only_a_key_with_the_scope_raters_reaches_these_routes(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        handle = scene.stack.ports.identity.erasure_handle("default", erasure_id_of(scene))
        routes = (("DELETE", "/v1/raters/mia"), ("GET", "/v1/raters/mia/export"), ("GET", f"/v1/erasures/{handle}"))
        for method, path in routes:
            assert (await scene.http.request(method, path)).status_code == 403
            assert (await asked(scene, method, path, Scope.FEEDBACK, Scope.CHAT, Scope.ADMIN)).status_code == 403
            async with httpx.AsyncClient(base_url=scene.url, verify=False) as nobody:
                assert (await nobody.request(method, path)).status_code == 401
        assert erasure_events(scene) == []


def erasure_id_of(scene: Scene) -> UUID:
    return make_wish(scene.stack.ports.identity, "default", "mia", "test").body.erasure_id


async def test_an_erasure_is_followed_by_its_handle_before_and_after_its_event_has_come(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        handle = (await asked(scene, "DELETE", "/v1/raters/mia")).json()["erasure_id"]
        first = await asked(scene, "GET", f"/v1/erasures/{handle}")
        assert (first.status_code, first.json()["state"], first.json()["report"]) == (200, "accepted", {})
        ((envelope, body),) = erasure_events(scene)
        with scene.stack.ports.database.transaction() as session:
            row = erasures.accept(session, "default", body, envelope.occurred_at)
            row.state, row.report, row.finished_at = "done", {"datasets": {"d1": 3}}, now()
        second = (await scene.http.get(f"/v1/erasures/{handle}", headers=admin(scene))).json()
        assert (second["erasure_id"], second["state"], second["report"]) == (handle, "done", {"datasets": {"d1": 3}})
        assert second["finished_at"] is not None


def admin(scene: Scene) -> dict[str, str]:
    return {"Authorization": f"Bearer {scene.stack.admin_key}"}


async def test_made_up_handles_and_those_of_another_tenant_are_not_there(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        handle = (await asked(scene, "DELETE", "/v1/raters/mia")).json()["erasure_id"]
        foreign = await asked(scene, "GET", f"/v1/erasures/{handle}", tenant="acme")
        assert foreign.status_code == 404
        assert foreign.json()["error"]["param"] == "erasure_id"
        for made_up in ("x", "erasure-" + "0" * 48, handle[:-1] + ("0" if handle[-1] != "0" else "1")):
            assert (await scene.http.get(f"/v1/erasures/{made_up}", headers=admin(scene))).status_code == 404


async def test_while_the_log_is_away_an_erasure_goes_to_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path) as scene:
        refuse_appends(monkeypatch)
        answer = await asked(scene, "DELETE", "/v1/raters/mia")
        assert (answer.status_code, answer.json()["stored"]) == (202, "spool")
        monkeypatch.undo()
        await eventually(lambda: len(erasure_events(scene)) == 1)


async def test_an_erasure_that_can_be_kept_nowhere_is_not_acknowledged_and_destroys_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path, gateway={"spool_max_bytes": 100}) as scene:
        sealer = scene.stack.ports.sealer
        refuse_appends(monkeypatch)
        answer = await asked(scene, "DELETE", "/v1/raters/mia")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert sealer.forget("default", hashed(scene, "mia"), now()) == []
        monkeypatch.undo()


async def fulfil(scene: Scene, lines: list[dict[str, Any]]) -> str:
    """As the feedback process does it, once there is a wish."""
    ports = scene.stack.ports
    for _ in range(200):
        with ports.database.reading() as session:
            wishes = exports.requested(session)
        if wishes:
            break
        await asyncio.sleep(0.02)
    (wish,) = wishes
    path = f"exports/default/{wish.export_id}.jsonl"
    ports.artifacts.write(path, b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    with ports.database.transaction() as session:
        exports.move(session, "default", wish.export_id, ExportState.READY, path)
    return path


async def test_an_export_is_streamed_once_it_is_made_and_then_removed(tmp_path: Path) -> None:
    lines = [{"kind": "export"}, {"kind": "feedback", "body": {"comment": "schön"}}]
    async with open_scene(tmp_path) as scene:
        waiting = asyncio.create_task(asked(scene, "GET", "/v1/raters/mia/export"))
        path = await fulfil(scene, lines)
        answer = await waiting
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert [json.loads(line) for line in answer.text.splitlines()] == lines
        await eventually(lambda: export_states(scene) == ["gone"])
        assert not scene.stack.ports.artifacts.exists(path)
        with scene.stack.ports.database.reading() as session:
            audited = session.scalars(select(AuditRow.action).where(AuditRow.action == "rater.export")).all()
        assert len(audited) == 1


async def test_an_export_whose_file_is_gone_is_made_anew_when_it_is_asked_for_again(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"export_wait_s": 0.05}) as scene:
        assert (await asked(scene, "GET", "/v1/raters/mia/export")).status_code == 202
        scene.stack.ports.artifacts.delete([await fulfil(scene, [{"kind": "export"}])])
        statuses = [(await scene.http.get("/v1/raters/mia/export", headers=admin(scene))).status_code for _ in "12"]
        assert statuses == [503, 202]
        assert sorted(export_states(scene)) == ["gone", "requested"]


def export_states(scene: Scene) -> list[str]:
    with scene.stack.ports.database.reading() as session:
        return [row.state for row in exports.of_rater(session, "default", hashed(scene, "mia"))]


async def test_an_export_that_takes_long_is_asked_for_again(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"export_wait_s": 0.05}) as scene:
        first = await asked(scene, "GET", "/v1/raters/mia/export")
        assert (first.status_code, first.json(), first.headers["retry-after"]) == (202, {"state": "requested"}, "2")
        await fulfil(scene, [{"kind": "export"}])
        again = await scene.http.get("/v1/raters/mia/export", headers=admin(scene))
        assert (again.status_code, again.json()) == (200, {"kind": "export"})


async def test_an_export_of_another_tenants_person_is_another_persons(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"export_wait_s": 0}) as scene:
        for tenant in ("default", "acme"):
            assert (await asked(scene, "GET", f"/v1/raters/mia/export?{tenant}", tenant=tenant)).status_code == 202
        with scene.stack.ports.database.reading() as session:
            wishes = exports.requested(session)
        assert len({(wish.tenant, wish.rater) for wish in wishes}) == 2


async def test_no_gateway_writes_a_tombstone_itself(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await asked(scene, "DELETE", "/v1/raters/mia")
        with scene.stack.ports.database.reading() as session:
            assert session.scalars(select(ErasureRow)).all() == []
