"""Takes out of texts what reaches or identifies a person by itself, before they become rows of a dataset.

Only what can be told by its form and its check digits: addresses and numbers, never names. What was taken out is
replaced by its kind in brackets, so that a model learns to speak about such things without learning them.
"""

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import phonenumbers
from stdnum import iban, luhn

from infra.contracts.events import Choice, Feedback, Inference

MAYBE = re.compile(r"[@\d]")  # without one of these there is nothing to find
# The HTML standard's e-mail address, with a dot in its domain.
EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}\b")
CARD = re.compile(r"\b\d(?:[ -]?\d){12,18}\b")
IP = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){2,7})(?![\w:]|\.\d)")
NAMES = frozenset({"role", "type", "id", "tool_call_id"})  # fields of messages that hold no text
Span = tuple[int, int]
Find = Callable[[str], Iterator[Span]]


@dataclass(frozen=True, slots=True)
class Redactor:
    """`region` is a country as ISO 3166 has it (DE): its national phone numbers are found too."""

    region: str | None = None

    def inference(self, body: Inference) -> tuple[Inference, Counter[str]]:
        """Prompts and answers."""
        found: Counter[str] = Counter()
        request = {**body.request, "messages": self._within(body.request.get("messages") or [], found)}
        asked = [] if found else body.prompt_token_ids  # token ids are the text once more
        choices = [self._choice(choice, found) for choice in body.choices]
        return body.model_copy(update={"request": request, "prompt_token_ids": asked, "choices": choices}), found

    def feedback(self, body: Feedback) -> tuple[Feedback, Counter[str]]:
        """A person's own better answer; comments make no rows."""
        found: Counter[str] = Counter()
        if body.kind != "correction" or not isinstance(body.value, str):
            return body, found
        return body.model_copy(update={"value": self._within(body.value, found)}), found

    def text(self, text: str) -> tuple[str, Counter[str]]:
        found: Counter[str] = Counter()
        if MAYBE.search(text):
            for kind, find in self._finders().items():
                spans = list(find(text))
                found[kind] += len(spans)
                for start, end in reversed(spans):
                    text = f"{text[:start]}[{kind}]{text[end:]}"
        return text, +found

    def _finders(self) -> Mapping[str, Find]:
        """In this order: a card's number could be read as a phone's."""
        return {
            "email": lambda text: _matching(EMAIL, text),
            "iban": lambda text: _matching(IBAN, text, iban.is_valid),
            "card": lambda text: _matching(CARD, text, _is_card),
            "ip": lambda text: _matching(IP, text, _is_ip),
            "phone": self._phones,
        }

    def _phones(self, text: str) -> Iterator[Span]:
        for match in phonenumbers.PhoneNumberMatcher(text, self.region):
            yield match.start, match.end

    def _choice(self, choice: Choice, found: Counter[str]) -> Choice:
        if not choice.message:
            return choice
        mine = Counter[str]()
        message = self._within(choice.message, mine)
        found.update(mine)
        return choice.model_copy(update={"message": message, "token_ids": [] if mine else choice.token_ids})

    def _within(self, value: Any, found: Counter[str]) -> Any:
        """Every text in a message, however deep."""
        if isinstance(value, str):
            text, counts = self.text(value)
            found.update(counts)
            return text
        if isinstance(value, list):
            return [self._within(part, found) for part in value]
        if isinstance(value, dict):
            return {name: part if name in NAMES else self._within(part, found) for name, part in value.items()}
        return value


def _matching(pattern: re.Pattern[str], text: str, check: Callable[[str], bool] | None = None) -> Iterator[Span]:
    for match in pattern.finditer(text):
        if check is None or check(match[0]):
            yield match.span()


def _is_card(number: str) -> bool:
    return luhn.is_valid(re.sub(r"[ -]", "", number))


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
