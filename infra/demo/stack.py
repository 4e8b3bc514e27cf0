"""The demo's own stack: its state directory, its settings, its base model, started and stopped by the commands."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.demo.plan import Plan
from infra.demo.shell import CommandFailed, Shell

GATEWAY = {"port": 0, "routing_poll_s": 0.05}
FEEDBACK = {"gate_share": 0.2, "report_share": 0.02, "rater_cap": 400}


@dataclass(frozen=True, slots=True)
class Keys:
    client: str
    admin: str


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything lies under `directory`; the product's state in its `home`."""

    directory: Path

    @property
    def home(self) -> Path:
        return self.directory / "home"

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
        return Shell(self.home)

    async def clear(self) -> None:
        """Ends a stack that an earlier run left, and removes what it wrote."""
        if self.home.exists():
            try:
                await self.shell.run("down")
            except CommandFailed as error:
                if "not running" not in str(error):
                    raise
        shutil.rmtree(self.directory, ignore_errors=True)
        self.home.mkdir(parents=True)

    async def train_base(self, plan: Plan, seed: int) -> None:
        await self.shell.run(
            "train", "scratch", "--corpus", str(self.corpus), "--out", str(self.model),
            "--steps", str(plan.base_steps), "--seed", str(seed),
        )  # fmt: skip

    def configure(self, plan: Plan, seed: int, method: str) -> None:
        trainer = {**plan.trainer, "seed": seed, "method": method, "sweep_s": 0.5, "regression_file": str(self.checks)}
        sections = {"gateway": GATEWAY, "feedback": FEEDBACK, "trainer": trainer, "serving": plan.serving}
        (self.home / "config.toml").write_text("\n".join(_section(name, fields) for name, fields in sections.items()))

    async def up(self) -> str:
        """The gateway's address, once everything answers."""
        await self.shell.run("up", "--detach", "--model", str(self.model))
        status = await self.shell.json("status")
        return str(status["processes"]["gateway"]["address"])

    async def down(self) -> None:
        await self.shell.run("down")

    def keys(self) -> Keys:
        found = json.loads((self.home / "keys.json").read_text())
        return Keys(found["client"], found["admin"])


def _section(name: str, fields: dict[str, Any]) -> str:
    """TOML's strings, numbers and booleans are JSON's."""
    return "\n".join([f"[{name}]", *[f"{key} = {json.dumps(value)}" for key, value in fields.items()], ""])
