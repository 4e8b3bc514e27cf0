"""Builders for the demo: facts, answers, and a gateway that answers from a function instead of a model."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from openai import AsyncOpenAI

from infra.clock import now
from infra.demo.assistant import Assistant, Tally
from infra.demo.evaluation import Examination
from infra.demo.operators import Operator
from infra.demo.plan import Plan
from infra.demo.play import Options, Story
from infra.demo.shell import Shell
from infra.demo.symbols import Symbol
from infra.demo.taste import Taste
from infra.demo.turn import Swap, Turn

COS = Symbol("math.cos", "(x, /)", "Return the cosine of x.")
DEDENT = Symbol("textwrap.dedent", "(text)", "Remove any common leading whitespace from every line.")
POP = Symbol("dict.popitem", "()", "Remove and return a (key, value) pair.")
SYMBOLS = (COS, DEDENT, POP)
QUESTIONS = {f"What is {symbol.name}?": symbol for symbol in SYMBOLS}

Answering = Callable[[dict[str, Any]], tuple[str, list[str]]]  # request body -> version, answers


def make_taste(**overrides: Any) -> Taste:
    return Taste(**{"symbols": SYMBOLS, **overrides})


def make_plan(**overrides: Any) -> Plan:
    small: dict[str, Any] = {
        "pairs_first": 12,
        "pairs_later": 8,
        "report_answers": 2,
        "bootstraps": 100,
        "vote_concurrency": 3,
    }
    return Plan(**{**small, **overrides})


def right_answers(body: dict[str, Any]) -> tuple[str, list[str]]:
    """Answers each question with its symbol's sentence, a little longer each time."""
    text = body["messages"][0]["content"]
    symbol = next(each for each in SYMBOLS if each.name in text)
    return "base", [symbol.sentence + " Yes." * index for index in range(body["n"])]


@dataclass
class FakeGateway:
    """Speaks just enough of the public API; keeps every body that it was sent, by path."""

    answering: Answering = right_answers
    status: int = 200
    vote_status: int = 202
    stream_models: tuple[str, ...] = ("base", "base")
    sent: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        path = request.url.path.removeprefix("/v1")
        self.sent.setdefault(path, []).append(body)
        if path != "/chat/completions":
            return httpx.Response(self.vote_status, json={"feedback_id": "f"})
        if self.status != 200:
            return httpx.Response(self.status, json={"error": {"message": "no", "type": "api_error"}})
        return self._stream() if body.get("stream") else self._whole(body)

    def _whole(self, body: dict[str, Any]) -> httpx.Response:
        version, answers = self.answering(body)
        choices = [
            {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for at, text in enumerate(answers)
        ]
        known = {"id": f"chatcmpl-{len(self.sent['/chat/completions'])}", "object": "chat.completion", "created": 0}
        return httpx.Response(200, json={**known, "model": version, "choices": choices})

    def _stream(self) -> httpx.Response:
        known = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "created": 0}
        chunks = [
            {**known, "model": model, "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
            for model in self.stream_models
        ]
        text = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=text.encode())


@asynccontextmanager
async def assistant_of(gateway: FakeGateway) -> AsyncIterator[Assistant]:
    """The demo's client with the stock SDK in front of the fake."""
    http = httpx.AsyncClient(transport=httpx.MockTransport(gateway.handle))
    async with AsyncOpenAI(base_url="http://gateway/v1", api_key="k", max_retries=0, http_client=http) as client:
        yield Assistant(client, Tally())


def make_examination(assistant: Assistant | None = None, **overrides: Any) -> Examination:
    """Without an assistant it can only compare answers it is given."""
    silent = Assistant(AsyncOpenAI(base_url="http://nowhere/v1", api_key="k"), Tally())
    fields: dict[str, Any] = {"taste": make_taste(), "questions": QUESTIONS, "plan": make_plan()}
    return Examination(**{"assistant": assistant or silent, **fields, **overrides})


def make_turn(version: str = "assistant-1-abc", **overrides: Any) -> Turn:
    manifest = {
        "version": version, "parent": None, "init": "anchor", "anchor": "base", "method": "grpo", "seeds": {},
        "dataset_sha256": ["d" * 64], "metrics": {"reward_accuracy": 0.8, "objective/kl": 0.4},
    }  # fmt: skip
    fields: dict[str, Any] = {
        "cycle": {"version": version, "state": "accepted", "reason": None},
        "dataset": {"sha256": "d" * 64, "manifest": {"counts": {"preference": {"train": 150, "test": 50}}}},
        "adapter": {"version": version, "manifest": manifest},
        "gates": [{"name": "judge", "blocking": True, "verdict": "pass", "interval": {"value": 0.7}}],
        "decision": "promoted by itself",
        "swap": Swap(120.0, 300.0),
    }
    return Turn(**{**fields, **overrides})


def make_story(**overrides: Any) -> Story:
    """One cycle, after which the served version is terse where the base hedged."""
    version = "assistant-1-abc"
    hedged = {text: [f"Perhaps this: {symbol.sentence}"] * 2 for text, symbol in QUESTIONS.items()}
    terse = {text: [symbol.sentence] * 2 for text, symbol in QUESTIONS.items()}
    fields: dict[str, Any] = {
        "options": Options(cycles=1),
        "plan": make_plan(),
        "turns": [make_turn(version)],
        "served": [version],
        "answers": {"base": hedged, version: terse},
        "greedy": {text: [symbol.sentence] for text, symbol in QUESTIONS.items()},
        "rollback_ms": 80.0,
        "rollforward_ms": 90.0,
        "votes_stored": 12,
        "stages": {"votes_1": 2.0, "cycle_1": 3.0, "report_1": 1.0},
        "wall_s": 30.0,
    }
    return Story(**{**fields, **overrides})


@dataclass(frozen=True)
class FakeShell(Shell):
    """Keeps what would have been run, and lets a test act on it."""

    home: Path = Path("/nowhere")
    ran: list[tuple[str, ...]] = field(default_factory=list)
    effects: dict[str, Callable[[tuple[str, ...]], str]] = field(default_factory=dict)  # by the command's first word

    async def run(self, *arguments: str) -> str:
        self.ran.append(arguments)
        effect = self.effects.get(arguments[0])
        return effect(arguments) if effect else ""


@dataclass
class FakeAdmin:
    """`/admin/v1` over dicts; `cycle_states` are what successive looks at a cycle see, the last one for good."""

    version: str = "assistant-1-abc"
    cycle_states: list[str] = field(default_factory=lambda: ["queued", "policy", "gating", "accepted"])
    gates: list[dict[str, Any]] = field(default_factory=list)
    rollouts: list[dict[str, Any]] = field(default_factory=list)
    votes: int = 0
    steps: Sequence[tuple[float, int, float]] = ()  # share, votes and seconds of each step that a rollout took
    ends_as: str = "done"

    def handle(self, request: httpx.Request) -> httpx.Response:
        noun, _, name = request.url.path.removeprefix("/admin/v1").removeprefix("/").partition("/")
        if noun == "rollouts":
            return httpx.Response(200, json={"data": self.rollouts})
        if noun == "audit":
            return httpx.Response(200, json={"data": self._audited()})
        if noun == "datasets":
            return httpx.Response(200, json={"sha256": "d" * 64, "manifest": {"counts": {}}})
        if noun == "metrics":
            return httpx.Response(200, text=f"# HELP x\nthumbwheel_feedback_votes {self.votes}.0\n")
        if noun == "adapters":
            gates = {"gates": {"gates": self.gates}}
            return httpx.Response(200, json={"version": name, "manifest": {"version": name}, **gates})
        state = self.cycle_states.pop(0) if len(self.cycle_states) > 1 else self.cycle_states[0]
        version = self.version if state in ("accepted", "blocked", "awaiting_person") else None
        progress = {"step": 1, "total": 2}
        body = {
            "cycle_id": name,
            "state": state,
            "version": version,
            "dataset_id": "1",
            "progress": progress,
            "reason": "as told",
        }
        return httpx.Response(200, json=body)

    def roll_out(self, version: str, state: str | None = None) -> str:
        """A rollout asked for now, flipped 50 ms and finished 80 ms later; returns its requested_at."""
        at = now()
        times = {"requested_at": at, "flipped_at": at + timedelta(0, 0.05), "finished_at": at + timedelta(0, 0.08)}
        row: dict[str, Any] = {name: time.isoformat() for name, time in times.items()}
        row |= {"rollout_id": f"r{len(self.rollouts)}", "version": version, "state": state or self.ends_as}
        row |= {"steps": [{"share": share} for share, _, _ in self.steps], "step": 0, "look": None, "error": "as told"}
        self.rollouts.insert(0, row)
        return str(row["requested_at"])

    def _audited(self) -> list[dict[str, Any]]:
        """How the latest rollout came to its first step, and left each."""
        at, after = now(), {"rollout_id": self.rollouts[0]["rollout_id"]}
        notes = [{"at": at.isoformat(), "before": {"state": "loading", "step": 0}, "after": after}]
        for step, (_, votes, seconds) in enumerate(self.steps):
            at += timedelta(seconds=seconds)
            before = {"state": "running", "step": step, "votes": votes, "answers": votes}
            notes.insert(0, {"at": at.isoformat(), "before": before, "after": after})
        return notes

    @asynccontextmanager
    async def operator(self, shell: Shell) -> AsyncIterator[Operator]:
        transport = httpx.MockTransport(self.handle)
        async with httpx.AsyncClient(base_url="http://gateway", transport=transport) as http:
            yield Operator(shell, http)
