"""What of the engine's answer its client gets to see: only what it asked for, under our names."""

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """`model` is the resolved version, `response_id` the feedback handle."""

    response_id: str
    model: str
    logprobs: bool = False
    token_ids: bool = False
    usage: bool = False

    def body(self, body: Json) -> Json:
        """The engine's whole answer; changed in place."""
        self._rename(body)
        for choice in body["choices"]:
            self._strip(choice)
            if not self.logprobs:
                choice["logprobs"] = None  # as OpenAI's own answers have it
        return body

    def chunk(self, chunk: Json) -> Json | None:
        """One streamed piece; None where nothing is left that was asked for. Changed in place."""
        self._rename(chunk)
        if not self.usage:
            chunk.pop("usage", None)
        choices = chunk["choices"]
        for choice in choices:
            self._strip(choice)
        if not choices:
            return chunk if "usage" in chunk else None
        return chunk if any(self._says(choice) for choice in choices) else None

    def _rename(self, body: Json) -> None:
        body["id"], body["model"] = self.response_id, self.model
        if not self.token_ids:
            body.pop("prompt_token_ids", None)

    def _strip(self, choice: Json) -> None:
        if not self.token_ids:
            choice.pop("token_ids", None)
        if not self.logprobs:
            choice.pop("logprobs", None)

    def _says(self, choice: Json) -> bool:
        """The engine sends pieces that carry nothing but token ids: text is held back until it is whole."""
        if choice.get("finish_reason") or choice.get("logprobs") or choice.get("token_ids"):
            return True
        delta: Json = choice.get("delta") or {}
        return any(value for value in delta.values())
