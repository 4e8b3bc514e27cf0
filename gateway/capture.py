"""Gathers one answer as it passes by, chunk by chunk or whole, into what the inference event keeps."""

from dataclasses import dataclass, field
from typing import Any

from gateway.routing import Target
from infra.contracts.events import Choice

Json = dict[str, Any]


@dataclass(slots=True)
class CapturedChoice:
    """One choice so far. Text comes in pieces; `calls` are tool calls by their index."""

    texts: dict[str, list[str]] = field(default_factory=dict)
    others: Json = field(default_factory=dict)
    calls: dict[int, Json] = field(default_factory=dict)
    finish_reason: str | None = None
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def take_delta(self, delta: Json) -> None:
        for name, value in delta.items():
            if name == "tool_calls":
                for call in value or ():
                    self._take_call(call)
            elif isinstance(value, str) and name != "role":
                self.texts.setdefault(name, []).append(value)
            elif value is not None:
                self.others[name] = value

    def take_tokens(self, choice: Json) -> None:
        self.finish_reason = choice.get("finish_reason") or self.finish_reason
        self.token_ids += choice.get("token_ids") or ()
        if logprobs := choice.get("logprobs"):
            self.logprobs += [token["logprob"] for token in logprobs.get("content") or ()]

    def message(self) -> Json:
        """The whole message, as a request that was not streamed would have got it."""
        texts = {name: "".join(pieces) for name, pieces in self.texts.items()}
        message = {"role": "assistant", "content": None, **self.others, **texts}
        if self.calls:
            message["tool_calls"] = [call for _, call in sorted(self.calls.items())]
            message["content"] = message["content"] or None
        return message

    def _take_call(self, delta: Json) -> None:
        call = self.calls.setdefault(delta.get("index", 0), {"type": "function", "function": {"arguments": ""}})
        call.update({name: value for name, value in delta.items() if name not in ("index", "function") and value})
        function = delta.get("function") or {}
        call["function"]["arguments"] += function.get("arguments") or ""
        if function.get("name"):
            call["function"]["name"] = function["name"]


class Capture:
    """One answer: `n` choices, the prompt's token ids, the usage."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._choices: dict[int, CapturedChoice] = {}
        self.prompt_token_ids: list[int] = []
        self.usage: Json | None = None

    @property
    def finished(self) -> bool:
        """Every choice has said why it ended."""
        ended = [choice for choice in self._choices.values() if choice.finish_reason]
        return len(ended) >= self._n

    def take_chunk(self, chunk: Json) -> None:
        self._take_whole(chunk)
        for choice in chunk["choices"]:
            captured = self._choices.setdefault(choice["index"], CapturedChoice())
            captured.take_delta(choice.get("delta") or {})
            captured.take_tokens(choice)

    def take_body(self, body: Json) -> None:
        self._take_whole(body)
        for choice in body["choices"]:
            captured = self._choices[choice["index"]] = CapturedChoice(others=dict(choice["message"]))
            captured.take_tokens(choice)

    def choices(self, target: Target, *, stored: bool) -> list[Choice]:
        """What the event says of each; without any content where none may be kept.

        One that failed before it began has a choice too, else nothing would say which version failed. A pair has both
        sides, whichever has begun: one alone would be told as an answer of its arm.
        """
        for index in range(max(1, len(target.sides))):
            self._choices.setdefault(index, CapturedChoice())
        return [
            Choice(
                index=index,
                message=choice.message() if stored else None,
                finish_reason=choice.finish_reason,
                token_ids=choice.token_ids if stored else [],
                logprobs=choice.logprobs if stored else [],
                version=target.side(index).version,
                arm=target.side(index).arm,
                arm_propensity=target.side(index).propensity,
            )
            for index, choice in sorted(self._choices.items())
        ]

    def _take_whole(self, body: Json) -> None:
        if ids := body.get("prompt_token_ids"):
            self.prompt_token_ids = ids
        if usage := body.get("usage"):
            self.usage = usage
