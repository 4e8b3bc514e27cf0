"""Somebody who uses a running product as its public API has it: asks with the stock SDK, votes over HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import openai
from openai.types.chat import ChatCompletion

from tests.support.product import Product

CONSENT = {"consent_train": "true"}
QUESTION = "What does math.cos do?"
AT_ONCE = 6


@dataclass(frozen=True, slots=True)
class Visitor:
    """One end user, by the client's key."""

    product: Product
    name: str = "ann"

    @contextmanager
    def sdk(self) -> Iterator[openai.OpenAI]:
        key = self.product.keys["client"]
        with openai.OpenAI(base_url=f"{self.product.address}/v1", api_key=key, max_retries=0, timeout=120) as sdk:
            yield sdk

    def ask(self, question: str = QUESTION, **request: Any) -> ChatCompletion:
        request = {"model": "assistant", "max_tokens": 12, "user": self.name, "metadata": CONSENT, **request}
        with self.sdk() as sdk:
            return sdk.chat.completions.create(messages=[{"role": "user", "content": question}], **request)

    def rate(self, response_id: str, *, good: bool) -> str:
        """The id of the vote's event."""
        return self._cast("feedback", {"response_id": response_id, "name": "thumbs", "value": good})

    def correct(self, response_id: str, better: str) -> str:
        return self._cast("feedback", {"response_id": response_id, "name": "correction", "value": better})

    def compare(self, response_id: str, choice: str) -> str:
        """Between the two answers of one request."""
        sides = {side: {"response_id": response_id, "index": index} for index, side in enumerate("ab")}
        return self._cast("comparisons", {**sides, "choice": choice, "shown_first": "a"})

    def _cast(self, kind: str, vote: dict[str, Any]) -> str:
        headers = {"Authorization": f"Bearer {self.product.keys['client']}"}
        body = {**vote, "rater": self.name, "consent_train": True}
        answer = httpx.post(f"{self.product.address}/v1/{kind}", json=body, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["feedback_id"])


def choose_often(product: Product, *, visitors: int = 12, questions: int = 12) -> list[str]:
    """Every visitor chooses between two answers to every question, the longer one; returns the votes' event ids."""
    turns = [
        (Visitor(product, f"visitor-{v}"), f"What does function {q} do?")
        for v in range(visitors)
        for q in range(questions)
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda turn: _choose(*turn), turns))


def _choose(visitor: Visitor, question: str) -> str:
    answer = visitor.ask(question, n=2, temperature=1.0)
    a, b = (len(choice.message.content or "") for choice in answer.choices)
    return visitor.compare(answer.id, "a" if a >= b else "b")
