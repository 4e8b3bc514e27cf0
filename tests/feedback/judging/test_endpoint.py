"""What may pass is asked again, what will not is said at once, and the key is told to nobody else."""

import asyncio
import socket
from typing import Any

import pytest
from pydantic import SecretStr

from feedback.judging.endpoint import Endpoint, JudgeAway, JudgeRefused, Unclear, Usage, open_endpoint
from infra.settings import FeedbackSettings
from tests.support.feedback import make_settings
from tests.support.scripted_judge import ScriptedJudge, completion, running_judge

KEY = "sk-secret"
HELLO = [
    {"role": "system", "content": "-"},
    {"role": "user", "content": '{"A": {"content": "x"}, "B": {"content": ""}}'},
]


def settings_for(judge: ScriptedJudge, **more: Any) -> FeedbackSettings:
    return make_settings(judge_url=judge.url, judge_model="judge-1", **more)


def ask(judge: ScriptedJudge, *, key: str | None = None, **more: Any) -> tuple[str, Usage]:
    async def once() -> tuple[str, Usage]:
        async with open_endpoint(settings_for(judge, **more), SecretStr(key) if key else None) as opened:
            quick = Endpoint(opened.session, opened.url, opened.settings, first_wait_s=0.001)
            return await quick.complete(HELLO, {}), quick.usage

    return asyncio.run(once())


def test_it_is_asked_at_temperature_0_and_what_it_costs_is_counted() -> None:
    with running_judge(ScriptedJudge()) as judge:
        text, usage = ask(judge)
    assert text == '{"better": "A"}'
    assert usage == Usage(requests=1, prompt_tokens=100, completion_tokens=5)
    assert (judge.requests[0]["temperature"], judge.requests[0]["model"]) == (0, "judge-1")


@pytest.mark.parametrize("trouble", [500, 503, 429])
def test_what_may_pass_is_asked_again(trouble: int) -> None:
    with running_judge(ScriptedJudge()) as judge:
        judge.script.extend([trouble, trouble])
        assert ask(judge)[1].requests == 3


def test_what_does_not_pass_is_given_up_after_the_attempts_that_are_set() -> None:
    with running_judge(ScriptedJudge()) as judge:
        judge.script.extend([500] * 9)
        with pytest.raises(JudgeAway, match="answered 500.*no answer today"):
            ask(judge, judge_attempts=3)
    assert len(judge.requests) == 3


def test_a_wrong_key_is_refused_at_once_and_not_repeated_to_anybody() -> None:
    with running_judge(ScriptedJudge(key=KEY)) as judge:
        assert ask(judge, key=KEY)[1].requests == 1
        with pytest.raises(JudgeRefused, match="answered 401") as refused:
            ask(judge, key="sk-wrong")
    assert "sk-wrong" not in str(refused.value)
    assert len(judge.requests) == 2


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with running_judge(ScriptedJudge()) as judge:
        url = judge.url
    with pytest.raises(JudgeAway, match=url):
        ask(judge, judge_attempts=2)


@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"choices": []}', completion(None), completion([1])])
def test_a_reply_without_text_is_unclear(body: str) -> None:
    with running_judge(ScriptedJudge()) as judge:
        judge.script.append(body)
        with pytest.raises(Unclear):
            ask(judge)


def test_an_answer_that_never_comes_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        never = ScriptedJudge(url=f"http://127.0.0.1:{silent.getsockname()[1]}/v1")
        with pytest.raises(JudgeAway, match="did not answer"):
            ask(never, judge_timeout_s=0.05, judge_attempts=1)
