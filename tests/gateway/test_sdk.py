"""The stock OpenAI SDK, with both of its clients: nothing here knows that the server is not OpenAI's own."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from infra.registry.keys import Scope
from tests.support.scene import QUESTION, Scene, open_scene
from tests.support.scripted_engine import Failure
from tests.support.stack import free_port

Kind = Literal["sync", "async"]
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "weather", "strict": True, "parameters": {"type": "object", "x": [1]}},
    }
]
ONE_VERSION = {"versions": {"v1": 1.0}}
pytestmark = pytest.mark.parametrize("kind", ["sync", "async"])


class Caller(Protocol):
    """Either client, for tests that can wait."""

    async def answer(self, **fields: Any) -> ChatCompletion: ...

    async def pieces(self, **fields: Any) -> list[ChatCompletionChunk]: ...


class Waiting:
    def __init__(self, sdk: openai.AsyncOpenAI) -> None:
        self._sdk = sdk

    async def answer(self, **fields: Any) -> ChatCompletion:
        return await self._sdk.chat.completions.create(**asked(fields))

    async def pieces(self, **fields: Any) -> list[ChatCompletionChunk]:
        return [piece async for piece in await self._sdk.chat.completions.create(**asked(fields), stream=True)]


class Blocking:
    """In a thread, since the gateway runs on this one."""

    def __init__(self, sdk: openai.OpenAI) -> None:
        self._sdk = sdk

    async def answer(self, **fields: Any) -> ChatCompletion:
        return await asyncio.to_thread(lambda: self._sdk.chat.completions.create(**asked(fields)))

    async def pieces(self, **fields: Any) -> list[ChatCompletionChunk]:
        return await asyncio.to_thread(lambda: list(self._sdk.chat.completions.create(**asked(fields), stream=True)))


def asked(fields: dict[str, Any]) -> dict[str, Any]:
    return {"model": "assistant", "messages": QUESTION, **fields}


@asynccontextmanager
async def caller(scene: Scene, kind: Kind, key: str | None = None, *, retries: int = 0) -> AsyncIterator[Caller]:
    options: dict[str, Any] = {"base_url": f"{scene.url}/v1", "api_key": key or scene.stack.client_key}
    if kind == "async":
        plain = openai.DefaultAsyncHttpxClient(verify=False)
        async with openai.AsyncOpenAI(**options, max_retries=retries, http_client=plain) as waiting:
            yield Waiting(waiting)
    else:
        with openai.OpenAI(
            **options, max_retries=retries, http_client=openai.DefaultHttpxClient(verify=False)
        ) as blocking:
            yield Blocking(blocking)


async def test_an_answer_and_its_stream_say_the_same(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene, caller(scene, kind) as sdk:
        whole, pieces = await sdk.answer(), await sdk.pieces()
        text = "".join(piece.choices[0].delta.content or "" for piece in pieces)
        assert whole.choices[0].message.content == text == "v1/0.0 v1/0.1 v1/0.2 v1/0.3 "
        assert {whole.model, *(piece.model for piece in pieces)} == {"v1"}
        assert len({piece.id for piece in pieces} | {whole.id}) == 2


async def test_several_answers_come_at_once_whole_and_streamed(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene, caller(scene, kind) as sdk:
        whole, pieces = await sdk.answer(n=2), await sdk.pieces(n=2)
        streamed = ["", ""]
        for piece in pieces:
            for choice in piece.choices:
                streamed[choice.index] += choice.delta.content or ""
        assert [choice.message.content for choice in whole.choices] == streamed
        assert streamed[0] != streamed[1]


async def test_tools_reach_the_engine_untouched_and_their_calls_come_back(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene, caller(scene, kind) as sdk:
        scene.engine.script.extend(["tool", "tool"])
        fields: dict[str, Any] = {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": False}
        whole, pieces = await sdk.answer(**fields), await sdk.pieces(**fields)
        calls = whole.choices[0].message.tool_calls
        assert calls is not None
        assert calls[0].to_dict()["function"] == {"name": "weather", "arguments": '{"city": "Ulm"}'}
        deltas = [call for piece in pieces for call in piece.choices[0].delta.tool_calls or ()]
        arguments = "".join(call.function.arguments or "" for call in deltas if call.function)
        assert (deltas[0].id, pieces[-1].choices[0].finish_reason) == ("call-1", "tool_calls")
        assert arguments == '{"city": "Ulm"}'
        for request in scene.engine.requests:
            assert {name: request[name] for name in fields} == fields


async def test_whatever_else_vllm_takes_reaches_it_untouched(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene, caller(scene, kind) as sdk:
        own = {"top_k": 7, "min_p": 0.1, "structured_outputs": {"choice": ["a", "b"]}, "of_tomorrow": [None, 1.5]}
        openais = {"seed": 3, "stop": ["\n", "é"], "temperature": 0.3, "logit_bias": {"5": -1}, "max_tokens": 9}
        await sdk.answer(**openais, extra_body=own)
        (request,) = scene.engine.requests
        assert {name: request[name] for name in (*own, *openais)} == {**own, **openais}


async def test_logprobs_and_usage_are_there_for_who_asks(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene, caller(scene, kind) as sdk:
        whole = await sdk.answer(logprobs=True, top_logprobs=2)
        pieces = await sdk.pieces(logprobs=True, stream_options={"include_usage": True})
        said = whole.choices[0].logprobs
        assert said is not None
        assert said.content is not None
        streamed = [t for p in pieces for c in p.choices if c.logprobs for t in c.logprobs.content or ()]
        assert [token.logprob for token in said.content] == [token.logprob for token in streamed]
        assert whole.usage is not None
        assert pieces[-1].usage == whole.usage
        assert scene.engine.requests[0]["top_logprobs"] == 2
        plain = await sdk.answer()
        assert plain.choices[0].logprobs is None


@pytest.mark.parametrize(
    ("fields", "error", "code"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model_not_found"),
        ({"messages": []}, openai.BadRequestError, "too_short"),
        ({"n": 0}, openai.BadRequestError, "greater_than_equal"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, openai.APIStatusError, "request_too_large"),
    ],
)
async def test_each_bad_request_has_its_class(
    tmp_path: Path, kind: Kind, fields: dict[str, Any], error: type[openai.APIStatusError], code: str
) -> None:
    async with open_scene(tmp_path, gateway={"max_body_bytes": 2000}) as scene, caller(scene, kind) as sdk:
        for call in (sdk.answer, sdk.pieces):
            with pytest.raises(error) as caught:
                await call(**fields)
            assert caught.value.code == code
            assert caught.value.request_id is not None
        assert not scene.engine.requests


async def test_a_bad_key_and_one_without_the_scope_have_their_classes(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene:
        voter = scene.stack.add_key(Scope.FEEDBACK)
        for key, error in (("tw-unknown", openai.AuthenticationError), (voter, openai.PermissionDeniedError)):
            async with caller(scene, kind, key) as sdk:
                with pytest.raises(error):
                    await sdk.answer()


@pytest.mark.parametrize(
    ("failure", "error", "status", "retry_after"),
    [
        ("refuse", openai.BadRequestError, 400, None),
        ("crash", openai.InternalServerError, 502, None),
        ("busy", openai.InternalServerError, 503, "1"),
        ("silent", openai.InternalServerError, 504, None),
    ],
)
async def test_each_failure_of_the_engine_has_its_class(
    tmp_path: Path,
    kind: Kind,
    failure: Failure,
    error: type[openai.APIStatusError],
    status: int,
    retry_after: str | None,
) -> None:
    async with open_scene(tmp_path, gateway={"upstream_timeout_s": 0.3}) as scene, caller(scene, kind) as sdk:
        for call in (sdk.answer, sdk.pieces):
            scene.engine.script = deque([failure, failure])
            with pytest.raises(error) as caught:
                await call()
            assert caught.value.status_code == status
            assert caught.value.response.headers.get("retry-after") == retry_after


async def test_the_sdks_own_retries_outlast_an_engine_that_is_busy_for_a_moment(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene, caller(scene, kind, retries=2) as sdk:
        scene.engine.script.extend(["busy", "busy"])  # the gateway itself tries twice
        assert (await sdk.answer()).choices[0].finish_reason == "stop"


@pytest.mark.parametrize("failure", ["die_midway", "fail_midway"])
async def test_an_engine_that_dies_midway_is_an_error_and_never_a_short_answer(
    tmp_path: Path, kind: Kind, failure: Failure
) -> None:
    async with open_scene(tmp_path) as scene, caller(scene, kind) as sdk:
        scene.engine.pace_s = 0.05
        scene.engine.script.append(failure)
        with pytest.raises(openai.APIError, match="the engine") as caught:
            await sdk.pieces()
        assert not isinstance(caught.value, openai.APIStatusError)  # the status was 200: it had begun
        assert caught.value.code == "engine_failed"


async def test_a_gateway_that_is_not_there_is_a_connection_error(tmp_path: Path, kind: Kind) -> None:
    async with open_scene(tmp_path) as scene:
        scene.url = f"http://127.0.0.1:{free_port()}"
        async with caller(scene, kind) as sdk:
            with pytest.raises(openai.APIConnectionError):
                await sdk.answer()
