"""Scores from a registered reward model, computed in a child process of its own."""

import json
import threading
from pathlib import Path

import pytest

from infra.ports import Ports
from tests.support.home import make_ports
from tests.support.reward_models import register_reward_model
from tests.support.tiny_training import tiny_environment
from trainer.errors import StageFailed
from trainer.model import Base, load_base
from trainer.rewarding import RewardModel
from trainer.scoring import main, score_in_child

NAME = "assistant-1-reward-00000000"
CONVERSATIONS = [
    {"prompt": [{"role": "user", "content": "What does f1 do?"}], "completion": "a list"},
    {"prompt": [{"role": "user", "content": "What does f2 do?"}], "completion": "returns the cosine of x as a string"},
]


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ports:
    environ = tiny_environment(tmp_path)
    made = make_ports(tmp_path / "home", **environ)
    for name, value in {**environ, "THUMBWHEEL_HOME": str(made.home)}.items():
        monkeypatch.setenv(name, value)
    return made


def register(ports: Ports, base: Base, directory: Path) -> RewardModel:
    return register_reward_model(ports, base, directory, NAME)


@pytest.mark.training
def test_scores_are_written_in_the_order_of_the_conversations(ports: Ports, tmp_path: Path) -> None:
    model = register(ports, load_base(Path(ports.settings.serving.model)), tmp_path / "reward")
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS))
    written = score_in_child(ports, NAME, str(path), threading.Event())
    expected = model.score([(item["prompt"], item["completion"]) for item in CONVERSATIONS])  # type: ignore[misc]
    assert json.loads(Path(written).read_text()) == pytest.approx(expected.tolist(), rel=1e-4)


@pytest.mark.training
def test_what_lies_in_the_artifact_store_is_scored_there(ports: Ports, tmp_path: Path) -> None:
    """As another room asks, from a machine that shares nothing else."""
    register(ports, load_base(Path(ports.settings.serving.model)), tmp_path / "reward")
    ports.artifacts.write("lent/asked.json", json.dumps(CONVERSATIONS).encode())
    written = score_in_child(ports, NAME, "lent/asked.json", threading.Event())
    assert written == "lent/asked.json.scores.json"
    assert len(json.loads(ports.artifacts.read(written))) == 2


@pytest.mark.training
def test_the_child_itself_runs_in_one_process_too(ports: Ports, tmp_path: Path) -> None:
    register(ports, load_base(Path(ports.settings.serving.model)), tmp_path / "reward")
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps(CONVERSATIONS))
    assert main(["--reward", NAME, "--path", str(path)]) == 0
    assert len(json.loads(Path(f"{path}.scores.json").read_text())) == 2


@pytest.mark.training
def test_a_whole_conversation_scores_its_turns_at_their_shares(ports: Ports, tmp_path: Path) -> None:
    model = register(ports, load_base(Path(ports.settings.serving.model)), tmp_path / "reward")
    messages = [
        {"role": "user", "content": "What does f1 do?"}, {"role": "assistant", "content": "a list"},
        {"role": "user", "content": "What does f2 do?"}, {"role": "assistant", "content": "the cosine of x"},
    ]  # fmt: skip
    path = tmp_path / "conversations.json"
    path.write_text(json.dumps([{"messages": messages}, CONVERSATIONS[0]]))
    assert main(["--reward", NAME, "--path", str(path)]) == 0
    first, second, alone = model.score(
        [(messages[:1], "a list"), (messages[:3], "the cosine of x"), (messages[:1], "a list")]
    )
    discount = ports.settings.trainer.conversation_discount
    expected = [(discount * first + second) / (discount + 1), alone]
    assert json.loads(Path(f"{path}.scores.json").read_text()) == pytest.approx(expected, rel=1e-4)


def test_an_unknown_reward_model_is_said_to_be_unknown(ports: Ports, tmp_path: Path) -> None:
    path = tmp_path / "conversations.json"
    path.write_text("[]")
    with pytest.raises(StageFailed, match="there is no reward model nobody"):
        score_in_child(ports, "nobody", str(path), threading.Event())
