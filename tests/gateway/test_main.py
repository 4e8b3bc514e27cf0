import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from infra.contracts.events import InferenceStatus
from infra.registry import fleet
from infra.settings import variable
from tests.support.scene import QUESTION, eventually
from tests.support.scripted_engine import ScriptedEngine, running_engine
from tests.support.stack import GatewayProcess, Stack, make_stack

HEAVY = ("torch", "transformers", "pandas", "pyarrow", "numpy", "alembic", "celery", "vllm")


async def ask(gateway: GatewayProcess, stack: Stack, *, stream: bool = False) -> httpx.Response:
    headers = {"Authorization": f"Bearer {stack.client_key}"}
    body = {"model": "assistant", "messages": QUESTION, "stream": stream}
    async with httpx.AsyncClient(verify=False, timeout=60) as http:
        return await http.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers)


def ids_of(answers: list[httpx.Response]) -> set[str]:
    return {str(answer.json()["id"]) for answer in answers}


def stored_ids(stack: Stack) -> set[str]:
    return {event.response_id for event in stack.inferences()}


def cast_ids(stack: Stack) -> set[str]:
    return {str(envelope.event_id) for envelope, _ in stack.feedback_events()}


def test_the_gateway_holds_no_heavy_library() -> None:
    script = "import sys, gateway.process; from gateway.admin import admin_router; admin_router(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {module.partition(".")[0] for module in loaded} & set(HEAVY)


def test_it_says_where_it_listens_and_ends_with_exit_0(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with stack.gateway_process() as gateway:
        gateway.wait_until_ready(path="/healthz")
        said = json.loads((tmp_path / "run" / "gateway.json").read_text())
        assert (said["pid"], said["address"]) == (gateway.process.pid, gateway.url)
        with stack.ports.database.reading() as session:
            assert [row.address for row in fleet.live_gateways(session, 60)] == [gateway.url]
        assert gateway.end() == 0
        with stack.ports.database.reading() as session:
            assert not fleet.live_gateways(session, 60)
    assert not list((tmp_path / "spool").iterdir())
    stack.ports.close()


async def test_sigterm_lets_answers_under_way_finish(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    async with running_engine(ScriptedEngine(pace_s=0.3)) as engine:
        stack.publish(engines=[engine.address])
        with stack.gateway_process() as gateway:
            await asyncio.to_thread(gateway.wait_until_ready)
            asking = asyncio.create_task(ask(gateway, stack, stream=True))
            await eventually(lambda: bool(engine.requests))
            gateway.process.send_signal(signal.SIGTERM)
            assert (await asking).text.endswith("data: [DONE]\n\n")
            assert await asyncio.to_thread(gateway.process.wait, 60) == 0
    assert len(stored_ids(stack)) == 1
    stack.ports.close()


async def test_a_killed_gateway_loses_no_event_of_an_answer_that_was_delivered(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    async with running_engine(ScriptedEngine()) as engine:
        stack.publish(engines=[engine.address])
        delivered: list[httpx.Response] = []

        async def client(gateway: GatewayProcess) -> None:
            while True:
                try:
                    delivered.append(await ask(gateway, stack))
                except httpx.TransportError:
                    return

        for enough in (20, 40):
            with stack.gateway_process() as gateway:
                await asyncio.to_thread(gateway.wait_until_ready)
                asking = [asyncio.create_task(client(gateway)) for _ in range(6)]
                await eventually(lambda enough=enough: len(delivered) > enough, timeout_s=60)
                gateway.kill()
                await asyncio.gather(*asking)
        with stack.gateway_process() as gateway:
            await asyncio.to_thread(gateway.wait_until_ready)
            await eventually(lambda: ids_of(delivered) <= stored_ids(stack), timeout_s=15)
            await eventually(lambda: len(list((tmp_path / "spool").iterdir())) == 1, timeout_s=15)
    stack.ports.close()


async def test_an_acknowledged_vote_survives_a_kill_of_the_gateway(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    acknowledged: dict[str, str] = {}  # event id -> where it was said to be stored
    with stack.gateway_process() as gateway:
        await asyncio.to_thread(gateway.wait_until_ready, 60, "/healthz")
        headers = {"Authorization": f"Bearer {stack.client_key}"}

        async def voter(name: str) -> None:
            async with httpx.AsyncClient(verify=False, headers=headers) as http:
                while True:
                    minted = stack.ports.identity.new_response_id("default")
                    body = {"response_id": minted, "name": "thumbs", "value": True, "rater": name}
                    try:
                        receipt = (await http.post(f"{gateway.url}/v1/feedback", json=body)).json()
                    except httpx.TransportError:
                        return
                    acknowledged[receipt["feedback_id"]] = receipt["stored"]

        voting = [asyncio.create_task(voter(str(number))) for number in range(4)]
        await eventually(lambda: len(acknowledged) > 20, timeout_s=60)
        gateway.kill()
        await asyncio.gather(*voting)
    assert {event_id for event_id, stored in acknowledged.items() if stored == "log"} <= cast_ids(stack)
    with stack.gateway_process() as gateway:  # ships what the first one had spooled while the log was slow
        await asyncio.to_thread(gateway.wait_until_ready, 60, "/healthz")
        await eventually(lambda: acknowledged.keys() <= cast_ids(stack), timeout_s=15)
    stack.ports.close()


async def test_a_new_table_is_in_use_without_a_restart(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    async with running_engine(ScriptedEngine(known={"base", "v1"})) as engine:
        stack.publish(engines=[engine.address])
        with stack.gateway_process() as gateway:
            await asyncio.to_thread(gateway.wait_until_ready)
            stack.publish(engines=[engine.address], versions={"v1": 1.0})
            while (await ask(gateway, stack)).json()["model"] != "v1":
                pass
            await eventually(lambda: _applied(stack) == 2)
    stack.ports.close()


def _applied(stack: Stack) -> int:
    with stack.ports.database.reading() as session:
        return min(row.applied_revision for row in fleet.live_gateways(session, 5))


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({variable("gateway", "port"): "many"}, "gateway.port"),
        ({variable("gateway", "nonsense"): "1"}, "gateway.nonsense"),
    ],
)
def test_a_bad_setting_stops_the_start_with_its_name(tmp_path: Path, environment: dict[str, str], said: str) -> None:
    stack = make_stack(tmp_path)
    gateway = GatewayProcess(stack, environment)
    assert gateway.process.wait(60) == 2
    assert said in (tmp_path / "gateway.out").read_text()
    stack.ports.close()


def test_a_taken_port_is_a_clear_line_and_exit_2(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with stack.gateway_process() as gateway:
        gateway.wait_until_ready(path="/healthz")
        second = GatewayProcess(stack, {variable("gateway", "port"): str(gateway.port)})
        assert second.process.wait(60) == 2
        assert f"cannot listen on 127.0.0.1:{gateway.port}" in (tmp_path / "gateway.out").read_text()
    stack.ports.close()


def test_a_database_of_another_schema_stops_the_start(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    with stack.ports.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    gateway = GatewayProcess(stack)
    assert gateway.process.wait(60) == 2
    assert "thumbwheel infra migrate" in (tmp_path / "gateway.out").read_text()
    stack.ports.close()


async def test_what_a_stopping_gateway_cannot_finish_in_time_is_told_and_recorded(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, gateway={"drain_timeout_s": 1})
    async with running_engine(ScriptedEngine(pace_s=0.2, tokens=1000)) as engine:
        stack.publish(engines=[engine.address])
        with stack.gateway_process() as gateway:
            await asyncio.to_thread(gateway.wait_until_ready)
            asking = [asyncio.create_task(ask(gateway, stack, stream=stream)) for stream in (True, False)]
            await eventually(lambda: len(engine.requests) == 2)
            await asyncio.sleep(0.5)
            gateway.process.send_signal(signal.SIGTERM)
            streamed, whole = await asyncio.gather(*asking)
            assert '"code":"unavailable"' in streamed.text
            assert "[DONE]" not in streamed.text
            assert (whole.status_code, whole.headers["retry-after"]) == (503, "1")
            assert await asyncio.to_thread(gateway.process.wait, 60) == 0
        assert engine.cancelled == 2
    events = stack.inferences()
    assert [event.status for event in events] == [InferenceStatus.FAILED] * 2
    assert any(event.choices and event.choices[0].token_ids for event in events)
    stack.ports.close()
