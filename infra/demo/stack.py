"""The demo's own stack: its state directory, its settings, its base model, started and stopped by the commands."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.demo.plan import Plan
from infra.demo.shell import Shell

GATEWAY = {"port": 0, "routing_poll_s": 0.05}
STEP = re.compile(r"base (\d+)/(\d+) ?(.*)")  # how `train scratch` says how far it is
FEEDBACK = {"gate_share": 0.15, "report_share": 0.02, "rater_cap": 400}


class NotOurs(ValueError):
    """The directory is not the demo's to empty."""


@dataclass(frozen=True, slots=True)
class Keys:
    client: str
    admin: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of the gateway, and of the feedback process, whose /metrics count what is stored."""

    gateway: str
    feedback: str


@dataclass(frozen=True, slots=True)
class Stack:
    """`directory` is the product's state directory; the demo's own files lie beside the product's."""

    directory: Path

    @property
    def model(self) -> Path:
        return self.directory / "base"

    @property
    def corpus(self) -> Path:
        return self.directory / "corpus.jsonl"

    @property
    def checks(self) -> Path:
        return self.directory / "checks.jsonl"

    @property
    def shell(self) -> Shell:
        return Shell(self.directory)

    async def clear(self) -> None:
        """Ends a stack that an earlier run left and removes what it wrote; raises NotOurs rather than more."""
        if self.directory.exists() and any(self.directory.iterdir()):
            if not self.corpus.exists():
                raise NotOurs(f"{self.directory} holds something else than an earlier run of the demo: name another")
            await self.shell.run("down")
            await self.shell.run("services", "stop")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)

    async def train_base(self, plan: Plan, seed: int, show: Callable[[int, int, str], None]) -> None:
        def on_line(line: str) -> None:
            if said := STEP.match(line):
                show(int(said[1]), int(said[2]), said[3])

        await self.shell.run(
            "train", "scratch", "--corpus", str(self.corpus), "--out", str(self.model),
            "--steps", str(plan.base_steps), "--seed", str(seed),
            on_line=on_line,
        )  # fmt: skip

    def configure(self, plan: Plan, seed: int, method: str) -> None:
        trainer = {**plan.trainer, "seed": seed, "method": method, "sweep_s": 0.5, "regression_file": str(self.checks)}
        sections = {"gateway": GATEWAY, "feedback": FEEDBACK, "trainer": trainer, "serving": plan.serving}
        (self.directory / "config.toml").write_text(
            "\n".join(_section(name, fields) for name, fields in sections.items())
        )

    async def up(self, profile: str) -> Addresses:
        """Once everything answers; under the full profile on servers of its own, beside any others here."""
        if profile == "full":
            await self.shell.run("services", "start", "--any-ports")
        await self.shell.run("up", "--detach", "--model", str(self.model), "--profile", profile)
        status = await self.shell.json("status")
        return Addresses(status["processes"]["gateway"]["address"], status["processes"]["feedback"]["address"])

    async def down(self) -> None:
        await self.shell.run("down")
        await self.shell.run("services", "stop")

    def keys(self) -> Keys:
        found = json.loads((self.directory / "keys.json").read_text())
        return Keys(found["client"], found["admin"])


def _section(name: str, fields: dict[str, Any]) -> str:
    return "\n".join([f"[{name}]", *[f"{key} = {_toml(value)}" for key, value in fields.items()], ""])


def _toml(value: object) -> str:
    """Its strings, numbers and booleans are JSON's; its tables are not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value)
