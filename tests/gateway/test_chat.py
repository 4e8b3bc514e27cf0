from pathlib import Path
from typing import Any

import openai
import pytest

from infra.contracts.events import Consent, InferenceStatus
from infra.registry.keys import Scope
from tests.support.scene import QUESTION, eventually, open_scene

TOOLS: list[Any] = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ONE_VERSION = {"versions": {"v1": 1.0}}
TWO_VERSIONS = {"versions": {"v1": 0.5, "v2": 0.5}}


async def test_an_answer_carries_our_handle_the_resolved_version_and_a_token(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        raw = await scene.sdk.chat.completions.with_raw_response.create(model="assistant", messages=QUESTION)
        answer = raw.parse()
        assert scene.stack.ports.identity.owns("default", answer.id)
        assert answer.model == raw.headers["x-thumbwheel-version"] == "v1"
        assert raw.headers["x-thumbwheel-arm"] == "champion"
        assert raw.headers["x-request-id"] == answer.id
        grant = scene.stack.ports.identity.verify(raw.headers["x-thumbwheel-feedback-token"])
        assert (grant.tenant, grant.response_id, grant.rater) == ("default", answer.id, None)


async def test_the_engine_gets_our_request_id_and_key_and_never_the_clients(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.key = scene.stack.ports.engine_key
        answer = await scene.http.post(
            "/v1/chat/completions", json={"model": "assistant", "messages": QUESTION}, headers={"X-Request-Id": "mine"}
        )
        assert answer.status_code == 200
        assert f"chatcmpl-{scene.engine.headers[0]['x-request-id']}" == answer.json()["id"]


async def test_logprobs_and_token_ids_are_only_shown_to_whoever_asked(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        plain = (await scene.chat()).json()
        asked = (await scene.chat(logprobs=True, return_token_ids=True)).json()
        assert plain["choices"][0]["logprobs"] is None
        assert "token_ids" not in plain["choices"][0]
        assert "prompt_token_ids" not in plain
        assert len(asked["choices"][0]["logprobs"]["content"]) == 4
        assert (asked["choices"][0]["token_ids"], asked["prompt_token_ids"]) == ([100, 101, 102, 103], [7, 8])


async def test_the_event_holds_what_no_client_asked_for(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        answer = await scene.chat(n=2, user="ann", temperature=0.3, tools=TOOLS)
        event = await scene.inference(answer.json()["id"])
        assert event.request == {"messages": QUESTION, "tools": TOOLS}
        assert (event.sampling["temperature"], event.sampling["n"], event.sampling["top_p"]) == (0.3, 2, 1.0)
        assert [choice.token_ids for choice in event.choices] == [[100, 101, 102, 103]] * 2
        assert event.choices[1].logprobs == [-0.5, -1.5, -2.5, -3.5]
        assert event.choices[1].message is not None
        assert event.choices[1].message["content"] == answer.json()["choices"][1]["message"]["content"]
        assert {(c.version, c.arm, c.arm_propensity) for c in event.choices} == {("v1", "champion", 1.0)}
        assert (event.alias, event.base_revision, event.routing_revision) == ("assistant", "base-rev", 1)
        assert (event.prompt_token_ids, event.usage) == ([7, 8], answer.json()["usage"])
        assert (event.status, event.turn, event.rateable, event.stored) == (InferenceStatus.COMPLETED, 1, True, True)
        assert event.started_at < event.ended_at


async def test_who_speaks_travels_in_openais_own_fields(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        first = await scene.answer_id(user="ann")
        metadata = {"session_id": "s1", "segment": "trial", "consent_train": "true", "parent_response_id": first,
                    "regenerated_from": first, "rateable": "false", "other": "thing"}  # fmt: skip
        response_id = await scene.answer_id(safety_identifier="ann", metadata=metadata)
        event = await scene.inference(response_id)
        assert (event.parent_response_id, event.regenerated_from, event.rateable) == (first, first, False)
        envelopes = {body.response_id: envelope for envelope, body in scene.stack.inference_events()}
        assert (
            envelopes[first].rater == envelopes[response_id].rater == scene.stack.ports.identity.rater("default", "ann")
        )
        assert (envelopes[response_id].session_id, envelopes[response_id].segment) == ("s1", "trial")
        assert envelopes[response_id].consent == Consent(train=True, explicit=True)
        assert envelopes[first].consent == Consent(train=False, explicit=False)


async def test_the_token_of_a_named_user_is_for_that_rater(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await scene.chat(user="ann")
        identity = scene.stack.ports.identity
        assert identity.verify(answer.headers["x-thumbwheel-feedback-token"]).rater == identity.rater("default", "ann")


async def test_a_lineage_that_was_never_ours_is_refused(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        foreign = scene.stack.ports.identity.new_response_id("another tenant")
        refused = await scene.chat(metadata={"parent_response_id": foreign})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "metadata.parent_response_id")


async def test_consent_that_is_not_said_follows_the_setting(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"consent_default": True}) as scene:
        said_nothing, said_no = await scene.answer_id(), await scene.answer_id(metadata={"consent_train": "false"})
        await scene.inferences(said_nothing, said_no)
        consents = {body.response_id: envelope.consent for envelope, body in scene.stack.inference_events()}
        assert consents[said_nothing] == Consent(train=True, explicit=False)
        assert consents[said_no] == Consent(train=False, explicit=True)


async def test_store_false_keeps_no_content_and_no_consent(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"consent_default": True}) as scene:
        event = await scene.inference(await scene.answer_id(store=False, stop=["secret"]))
        assert (event.stored, event.request, event.prompt_token_ids) == (False, {}, [])
        assert "stop" not in event.sampling
        choice = event.choices[0]
        assert (choice.message, choice.token_ids, choice.logprobs) == (None, [], [])
        assert (choice.version, choice.finish_reason) == ("base", "stop")
        envelope, _ = scene.stack.inference_events()[0]
        assert not envelope.consent.train


async def test_an_event_cannot_be_read_without_its_owners_key(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.inference(await scene.answer_id(user="ann-with-a-long-name"))
        envelope, _ = scene.stack.inference_events()[0]
        assert b"cos" not in envelope.sealed
        assert "ann-with-a-long-name" not in envelope.model_dump_json()


async def test_a_large_event_is_kept_in_the_artifact_store(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"inline_body_limit": 1000}) as scene:
        messages = [{"role": "user", "content": "long " * 40_000}]
        event = await scene.inference(await scene.answer_id(messages=messages))
        assert event.request["messages"] == messages
        assert len(list((tmp_path / "artifacts" / "bodies").rglob("*"))) == 2


async def test_tools_go_through_and_their_calls_come_back(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.script.append("tool")
        answer = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, tools=TOOLS)
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].to_dict()["function"] == {"name": "weather", "arguments": '{"city": "Ulm"}'}
        assert scene.engine.requests[0]["tools"] == TOOLS


async def test_an_explicit_version_is_pinned(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=TWO_VERSIONS) as scene:
        answer = await scene.chat(model="v2")
        assert (answer.json()["model"], answer.headers["x-thumbwheel-arm"]) == ("v2", "pinned")


async def test_one_person_keeps_their_version_and_all_versions_are_met(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=TWO_VERSIONS) as scene:
        met = {}
        for person in map(str, range(12)):
            met[person] = {(await scene.chat(user=person)).json()["model"] for _ in range(2)}
        assert all(len(versions) == 1 for versions in met.values())
        assert set.union(*met.values()) == {"v1", "v2"}


async def test_models_are_the_alias_and_the_versions_it_routes(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table={**TWO_VERSIONS, "previous": ["old"]}) as scene:
        models = {model.id: model.to_dict() for model in (await scene.sdk.models.list()).data}
        assert models.keys() == {"assistant", "v1", "v2"}
        assert (models["assistant"]["root"], models["assistant"]["parent"]) == ("base-rev", "v1")
        assert models["v1"]["parent"] == "base"
        assert (await scene.sdk.models.retrieve("v2")).id == "v2"
        with pytest.raises(openai.NotFoundError):
            await scene.sdk.models.retrieve("old")
        operator = openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key=scene.stack.admin_key)
        assert {model.id for model in (await operator.models.list()).data} == {"assistant", "v1", "v2", "old", "base"}
        await operator.close()


async def test_without_a_live_key_or_its_scope_nobody_is_answered(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        voter = scene.stack.add_key(Scope.FEEDBACK)
        for key, error in (("tw-unknown", openai.AuthenticationError), (voter, openai.PermissionDeniedError)):
            async with openai.AsyncOpenAI(base_url=f"{scene.url}/v1", api_key=key) as sdk:
                with pytest.raises(error):
                    await sdk.chat.completions.create(model="assistant", messages=QUESTION)
        bare = await scene.http.post("/v1/chat/completions", json={}, headers={"Authorization": ""})
        assert (bare.status_code, bare.json()["error"]["code"]) == (401, "invalid_api_key")
        assert not scene.engine.requests


async def test_a_new_key_works_at_once_and_a_revoked_one_soon_does_not(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = (await scene.admin("POST", "/keys", {"name": "app", "scopes": ["chat"]})).json()["key"]
        headers = {"Authorization": f"Bearer {made}"}
        assert (await scene.http.get("/v1/models", headers=headers)).status_code == 200
        await scene.admin("POST", "/keys/app:revoke")
        for _ in range(200):
            if (await scene.http.get("/v1/models", headers=headers)).status_code == 401:
                break
        else:
            await eventually(lambda: False)


async def test_a_body_beyond_the_limit_is_refused_with_or_without_its_length(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"max_body_bytes": 500}) as scene:
        stated = await scene.chat(user="x" * 600)

        async def pieces() -> Any:
            for _ in range(10):
                yield b"x" * 100

        unstated = await scene.http.post("/v1/chat/completions", content=pieces())
        vote = await scene.http.post("/v1/feedback", content=pieces(), headers={"Content-Type": "application/json"})
        for refused in (stated, unstated, vote):
            assert (refused.status_code, refused.json()["error"]["type"]) == (413, "invalid_request_error")
        assert (await scene.chat()).status_code == 200


async def test_every_error_has_openais_shape(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for answer in (
            await scene.http.get("/nowhere"),
            await scene.http.get("/v1/chat/completions"),
            await scene.http.post("/v1/chat/completions", content=b"{"),
            await scene.http.post("/v1/feedback", content=b"{", headers={"Content-Type": "application/json"}),
            await scene.chat(model="nope"),
        ):
            assert answer.status_code in (400, 404, 405)
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}


async def test_an_unknown_alias_is_openais_404(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        with pytest.raises(openai.NotFoundError) as caught:
            await scene.sdk.chat.completions.create(model="nope", messages=QUESTION)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


async def test_the_process_says_how_it_is(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.inference(await scene.answer_id())
        assert (await scene.http.get("/healthz")).text == "ok\n"
        assert (await scene.http.get("/readyz")).text == "ok\n"
        metrics = (await scene.http.get("/metrics")).text
        assert 'thumbwheel_gateway_answers_total{outcome="completed"} 1.0' in metrics
        assert "thumbwheel_gateway_events_shipped_total 1.0" in metrics
        assert "thumbwheel_gateway_events_lost_total 0.0" in metrics
