"""The sampler over HTTP: what it asks, how it fails, and that the real engine keeps the common promises."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.contracts.routing import BASE_VERSION
from infra.settings import ServingSettings
from serving.launch import plan_launch, this_machine
from tests.support.sampler_conformance import SamplerConformance, draw, prompts_of_several_lengths
from tests.support.sampling_engine import SamplingEngine, running_engine
from tests.support.stack import free_port
from tests.support.tiny_model import make_tiny_model
from tests.support.training import disturb, make_prompt
from trainer.engine_sampler import EngineSampler
from trainer.errors import StageFailed, TryAgain
from trainer.model import Base, attach_adapter, load_base, save_adapter

TOOL = {"type": "function", "function": {"name": "cos", "parameters": {"type": "object"}}}


@pytest.fixture
def engine() -> Iterator[SamplingEngine]:
    with running_engine(SamplingEngine()) as running:
        yield running


@pytest.fixture
def asking(engine: SamplingEngine) -> Iterator[EngineSampler]:
    made = EngineSampler([engine.address], "secret", "served")
    yield made
    made.close()


def test_sampling_is_spelled_out_and_yields_to_users(engine: SamplingEngine, asking: EngineSampler) -> None:
    draw(asking, [make_prompt("Hi")], n=4, max_tokens=7)
    body = engine.requests[0]
    assert {name: body[name] for name in ("n", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")} == {
        "n": 4, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0,
    }  # fmt: skip
    assert (body["priority"], body["max_tokens"], body["return_token_ids"], body["logprobs"]) == (10, 7, True, True)
    assert engine.keys == {"Bearer secret"}


def test_no_connection_is_used_twice_since_the_engine_hangs_up_while_a_step_trains(
    engine: SamplingEngine, asking: EngineSampler
) -> None:
    for _ in range(3):
        draw(asking, [make_prompt("Hi")], n=1)
    assert len(set(engine.peers)) == 3


def test_no_two_samples_of_a_call_share_a_seed(engine: SamplingEngine, asking: EngineSampler) -> None:
    """An engine numbers a request's samples upwards from its seed."""
    draw(asking, prompts_of_several_lengths(), n=3, seed=100)
    assert sorted(body["seed"] for body in engine.requests) == [100, 103, 106]


def test_answers_carry_what_was_drawn_in_the_order_of_the_prompts(asking: EngineSampler) -> None:
    first, second = draw(asking, [make_prompt("Hi"), make_prompt("Hello")], n=2)
    assert (first[0].prompt_ids, second[0].prompt_ids) == ([3, 2], [3, 5])
    assert [answer.token_ids for answer in first] == [[60, 1], [61, 1]]
    assert first[1].logprobs == [-1.5, -0.1]
    assert [answer.truncated for answer in first] == [False, True]
    assert first[0].text == "a0"


def test_tools_go_along_and_are_not_parsed_out_of_the_answer(engine: SamplingEngine, asking: EngineSampler) -> None:
    draw(asking, [make_prompt(tools=[TOOL]), make_prompt("Hi")])
    with_tools = [body for body in engine.requests if "tools" in body]
    assert [body["tool_choice"] for body in with_tools] == ["none"]


def test_the_base_is_asked_by_its_served_name(engine: SamplingEngine, asking: EngineSampler) -> None:
    draw(asking, [make_prompt()])
    assert engine.requests[0]["model"] == "served"


def test_an_adapter_is_loaded_before_and_unloaded_after(
    engine: SamplingEngine, asking: EngineSampler, tmp_path: Path
) -> None:
    asking.publish("train-1-0", tmp_path)
    assert engine.adapters == {"train-1-0": str(tmp_path)}
    draw(asking, [make_prompt()], adapter="train-1-0")
    asking.retire("train-1-0")
    assert engine.adapters == {}


def test_every_engine_gets_the_adapter_and_its_share_of_the_prompts(engine: SamplingEngine, tmp_path: Path) -> None:
    with running_engine(SamplingEngine()) as second:
        sampler = EngineSampler([engine.address, second.address], "k", "served")
        sampler.publish("train-1-0", tmp_path)
        assert set(engine.adapters) == set(second.adapters) == {"train-1-0"}
        draw(sampler, prompts_of_several_lengths(), adapter="train-1-0")
        assert [len([b for b in one.requests if "messages" in b]) for one in (engine, second)] == [2, 1]
        sampler.close()


def test_an_engine_that_was_restarted_gets_the_adapter_back(
    engine: SamplingEngine, asking: EngineSampler, tmp_path: Path
) -> None:
    asking.publish("train-1-0", tmp_path)
    engine.adapters.clear()
    assert len(draw(asking, prompts_of_several_lengths(), adapter="train-1-0")) == 3
    assert set(engine.adapters) == {"train-1-0"}


def test_an_adapter_that_nobody_published_is_refused(asking: EngineSampler) -> None:
    with pytest.raises(StageFailed, match="no model train-9-9"):
        draw(asking, [make_prompt()], adapter="train-9-9")


def test_retiring_what_the_engine_has_forgotten_is_no_error(asking: EngineSampler) -> None:
    asking.retire("train-1-0")


def test_an_engine_that_is_away_means_try_again() -> None:
    sampler = EngineSampler([f"http://127.0.0.1:{free_port()}"], "k", "served")
    with pytest.raises(TryAgain, match="is away"):
        draw(sampler, [make_prompt()])
    sampler.close()


def test_an_engine_that_breaks_means_try_again(engine: SamplingEngine, asking: EngineSampler) -> None:
    engine.failures.append(500)
    with pytest.raises(TryAgain, match="500"):
        draw(asking, prompts_of_several_lengths())


def test_an_engine_that_refuses_fails_the_stage(engine: SamplingEngine, asking: EngineSampler) -> None:
    engine.failures.append(400)
    with pytest.raises(StageFailed, match="refused with 400: .*scripted"):
        draw(asking, [make_prompt()])


@contextmanager
def running_vllm(model: Path, log: Path) -> Iterator[str]:
    port = free_port()
    launch = plan_launch(ServingSettings(max_loras=2, max_model_len=256), this_machine(), model, port, "secret")
    environment = {**os.environ, **launch.environment}
    with log.open("wb") as output:
        process = subprocess.Popen(
            launch.arguments, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError(log.read_text()[-3000:])
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.5)
    raise AssertionError(f"no engine after {timeout_s} s: {log.read_text()[-3000:]}")


@pytest.mark.engine
@pytest.mark.timeout(400)
class TestRealEngine(SamplerConformance):
    """The common suite against vLLM itself."""

    @pytest.fixture(scope="class")
    @classmethod
    def directory(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("vllm")

    @pytest.fixture(scope="class")
    @classmethod
    def base(cls, directory: Path) -> Base:
        made = load_base(make_tiny_model(directory / "model"))
        attach_adapter(made, "disturbed", rank=4, alpha=8, seed=0)
        disturb(made, "disturbed")
        return made

    @pytest.fixture(scope="class")
    @classmethod
    def adapter(cls, base: Base, directory: Path) -> Path:
        save_adapter(base, "disturbed", directory / "adapter")
        return directory / "adapter"

    @pytest.fixture(scope="class")
    @classmethod
    def sampler(cls, base: Base, directory: Path) -> Iterator[EngineSampler]:
        with running_vllm(base.directory, directory / "engine.log") as address:
            made = EngineSampler([address], "secret", BASE_VERSION)
            yield made
            made.close()
