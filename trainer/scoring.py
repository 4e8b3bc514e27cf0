"""Scores for whoever else needs them: a reward model's opinion of conversations, computed in a child process."""

import argparse
import json
import sys
import threading
from pathlib import Path
from typing import Any

from infra.logs import configure_logging
from infra.ports import Ports
from infra.registry import adapters
from infra.settings import Settings, load_settings
from trainer.errors import StageFailed
from trainer.launch import Child, last_line

POLL_S = 0.5


def score_in_child(ports: Ports, reward_model: str, path: str, stop: threading.Event) -> str:
    """Writes `<path>.scores.json`, numbers in the order of `path`'s conversations, and returns its path.

    `path` is of a file, or where it is relative of the artifact store, which every machine reaches. It holds a JSON
    list of `{"prompt": [message, ...], "completion": text}`, or of `{"messages": [message, ...]}` for the score of a
    whole conversation. Raises StageFailed.
    """
    log_file = ports.home / "logs" / "score.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "trainer.scoring", "--reward", reward_model, "--path", path]
    with log_file.open("ab") as output, Child(command, ports.home, output) as child:
        while not child.ended(within_s=POLL_S) and not stop.is_set():
            continue
        status = child.end()
    if status:
        raise StageFailed(f"scoring with {reward_model} failed: {last_line(log_file)}")
    return f"{path}.scores.json"


def main(arguments: list[str] | None = None) -> int:
    """The child: loads the base and the reward model, scores, writes."""
    options = _parse(arguments)
    settings = load_settings()
    configure_logging(settings.infra, process="trainer-score")
    ports = Ports(settings)
    try:
        with ports.database.reading() as session:
            stored = adapters.get_reward_model(session, options.reward).path
        directory = ports.artifacts.fetch(stored, ports.home / "cycles" / "rewards" / options.reward)
        scores = _score(settings, directory, json.loads(_read(ports, options.path)))
        _write(ports, Path(f"{options.path}.scores.json"), json.dumps(scores).encode())
    finally:
        ports.close()
    return 0


def _read(ports: Ports, path: Path) -> bytes:
    return path.read_bytes() if path.is_absolute() else ports.artifacts.read(path.as_posix())


def _write(ports: Ports, path: Path, data: bytes) -> None:
    if path.is_absolute():
        path.write_bytes(data)
    else:
        ports.artifacts.write(path.as_posix(), data)


def _score(settings: Settings, reward: Path, asked: list[dict[str, Any]]) -> list[float]:
    from trainer.conversations import conversation_scores, turns_of  # torch: only in the child
    from trainer.model import load_base
    from trainer.rewards.ensemble import load_reward

    judge = load_reward(load_base(Path(settings.serving.model)), reward)
    turns = [turns_of(one["messages"]) if "messages" in one else [(one["prompt"], one["completion"])] for one in asked]
    return conversation_scores(judge, turns, settings.trainer.conversation_discount)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.scoring", description=__doc__)
    parser.add_argument("--reward", required=True)
    parser.add_argument("--path", required=True, type=Path)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
