"""What holds for every request, whichever route takes it."""

import asyncio
from pathlib import Path

import pytest
import structlog

from gateway.watch import Watch
from infra.registry import fleet
from infra.registry.keys import Scope
from tests.support.scene import open_scene
from tests.support.stack import make_stack, running_gateway


async def test_a_path_of_several_routes_names_the_methods_of_all(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for path, methods in (
            ("/admin/v1/keys", "GET, POST"),
            ("/admin/v1/cycles/1:cancel", "POST"),
            ("/admin/v1/cycles/1", "GET"),
            ("/v1/feedback", "POST"),
        ):
            answer = await scene.http.request("PUT", path)
            assert (answer.status_code, answer.headers["allow"]) == (405, methods)


async def test_reading_an_action_is_no_search_for_something_of_that_name(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await scene.admin("GET", "/cycles/1:cancel")).status_code == 405
        assert (await scene.admin("GET", "/cycles/1")).status_code == 404


async def test_every_answer_has_an_id_of_ours(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answers = [await scene.http.get(path, headers={"X-Request-Id": "mine"}) for path in ("/healthz", "/nowhere")]
        ids = {answer.headers["x-request-id"] for answer in answers}
        assert len(ids) == 2
        assert all(request_id.startswith("req-") for request_id in ids)
        chat = await scene.chat()
        assert chat.headers.get_list("x-request-id") == [chat.json()["id"]]


async def test_a_mistake_of_ours_is_a_500_without_details_whose_id_leads_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path) as scene:

        def broken(*_arguments: object) -> None:
            raise RuntimeError("secret detail")

        monkeypatch.setattr("gateway.admin.cycles.cycles.list_cycles", broken)
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            answer = await scene.admin("GET", "/cycles")
        assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
        assert "secret" not in answer.text
        (line,) = [line for line in lines if line["event"] == "request_failed"]
        assert line["request_id"] == answer.headers["x-request-id"]


async def test_a_gateway_is_known_to_the_controller_before_it_takes_a_request(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    stack.publish(engines=["http://127.0.0.1:1"])
    async with running_gateway(stack) as url:
        with stack.ports.database.reading() as session:
            assert [row.address for row in fleet.live_gateways(session, 60)] == [url]
    stack.ports.close()


async def test_a_key_works_however_soon_after_it_was_made(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"routing_poll_s": 0.3}) as scene:
        await scene.http.get("/v1/models", headers={"Authorization": "Bearer nobody"})  # every key was read just now
        headers = {"Authorization": f"Bearer {scene.stack.add_key(Scope.CHAT)}"}
        assert (await scene.http.get("/v1/models", headers=headers)).status_code == 200


async def test_strangers_share_the_reads_that_look_for_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_keys, reads = Watch.read_keys, []

    async def counted(watch: Watch) -> None:
        reads.append(watch)
        await read_keys(watch)

    async with open_scene(tmp_path, gateway={"routing_poll_s": 0.3}) as scene:
        monkeypatch.setattr(Watch, "read_keys", counted)
        asking = [scene.http.get("/v1/models", headers={"Authorization": f"Bearer {name}"}) for name in range(20)]
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {401}
        assert 1 <= len(reads) < 20
