"""Regression cases over HTTP: wished for by one call, made by the feedback process, listed, removed."""

from pathlib import Path
from typing import Any

import pytest

from infra.registry.keys import Scope
from tests.support.cases import make_case_maker
from tests.support.feedback import Room
from tests.support.scene import Scene, open_scene

PATH = "/gates/cases"
CHECKS = {"contains_all": ["cosine"], "reason": "it was wrong"}


def make_all(scene: Scene) -> int:
    """What the feedback process does, once."""
    ports = scene.stack.ports
    Room(scene.stack.home, ports.database, ports.sealer, ports.eventlog).consume()
    return make_case_maker(ports).turn()


async def answered(scene: Scene, **fields: Any) -> str:
    response_id = await scene.answer_id(**fields)
    await scene.inference(response_id)
    return response_id


async def test_a_case_is_added_listed_and_removed(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await answered(scene, user="mia", metadata={"consent_train": "true"})
        added = await scene.admin("POST", PATH, {"response_id": response_id, "name": "cos", **CHECKS})
        assert (added.status_code, added.json()["state"]) == (201, "requested")
        assert make_all(scene) == 1
        case = (await scene.admin("GET", f"{PATH}/cos")).json()
        assert (case["state"], case["alias"], case["checks"]) == ("live", "assistant", {"contains_all": 1})
        assert (await scene.admin("GET", PATH)).json()["data"] == [case]
        assert "cosine" not in str(case), "what is checked may quote somebody"
        removed = await scene.admin("POST", f"{PATH}/cos:remove", {"reason": "settled"})
        assert removed.status_code == 204
        assert (await scene.admin("GET", f"{PATH}/cos")).status_code == 404
        audit = (await scene.admin("GET", "/audit?subject=cos")).json()["data"]
        assert [entry["action"] for entry in audit] == ["case.remove", "case.live", "case.add"]
        assert (audit[0]["reason"], audit[0]["before"]["state"]) == ("settled", "live")


async def test_without_consent_it_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"consent_default": False}) as scene:
        response_id = await answered(scene)
        name = (await scene.admin("POST", PATH, {"response_id": response_id, **CHECKS})).json()["name"]
        make_all(scene)
        case = (await scene.admin("GET", f"{PATH}/{name}")).json()
        assert case["state"] == "refused"
        assert "trainer.regression_file" in case["refusal"]


@pytest.mark.parametrize("body", [
    {"reason": "none"}, {"contains_all": ["x"]}, {**CHECKS, "contains_all": [""]}, {**CHECKS, "equals": "x"},
    {**CHECKS, "name": "two words"}, {**CHECKS, "reason": ""}, {**CHECKS, "refuses": 0},
], ids=["no check", "no reason", "an empty check", "no such check", "no name", "silent", "no boolean"])  # fmt: skip
async def test_a_wish_that_is_none_is_refused_at_once(tmp_path: Path, body: dict[str, Any]) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = scene.stack.ports.identity.new_response_id("default")
        answer = await scene.admin("POST", PATH, {"response_id": response_id, **body})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        assert (await scene.admin("GET", PATH)).json()["data"] == []


async def test_only_handles_of_this_tenant_and_free_names_are_taken(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        identity = scene.stack.ports.identity
        foreign = await scene.admin("POST", PATH, {"response_id": identity.new_response_id("acme"), **CHECKS})
        assert (foreign.status_code, foreign.json()["error"]["param"]) == (404, "response_id")
        body = {"response_id": identity.new_response_id("default"), "name": "cos", **CHECKS}
        assert (await scene.admin("POST", PATH, body)).status_code == 201
        again = await scene.admin("POST", PATH, body)
        assert (again.status_code, again.json()["error"]["type"]) == (409, "conflict_error")
        assert (await scene.admin("POST", f"{PATH}/sin:remove", {"reason": "none"})).status_code == 404


async def test_a_tenant_sees_its_own_cases_alone_and_only_an_admin_does(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        body = {"response_id": scene.stack.ports.identity.new_response_id("default"), "name": "cos", **CHECKS}
        await scene.admin("POST", PATH, body)
        theirs = {"Authorization": f"Bearer {scene.stack.add_key(Scope.ADMIN, tenant='acme')}"}
        assert (await scene.http.get(f"/admin/v1{PATH}", headers=theirs)).json()["data"] == []
        assert (await scene.http.get(f"/admin/v1{PATH}/cos", headers=theirs)).status_code == 404
        assert (await scene.http.post(f"/admin/v1{PATH}", json=body)).status_code == 403


async def test_a_version_may_still_be_called_anything_else(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await scene.admin("GET", "/gates/assistant-1-aaaaaaaa")).status_code == 404
