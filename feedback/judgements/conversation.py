"""Messages in one shape, and the hashes by which two conversations or two answers are called the same."""

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

Message = dict[str, Any]
TEXT_FIELDS = ("role", "content", "reasoning_content", "name", "tool_call_id")


class UnsupportedContent(ValueError):
    """The message holds something that is not text: an image, a sound, a file."""


def clean(message: Mapping[str, Any]) -> Message:
    """Only what a chat template reads, absent fields left out; raises UnsupportedContent."""
    cleaned: Message = {"role": str(message.get("role") or "user"), "content": _text(message.get("content"))}
    if reasoning := message.get("reasoning_content") or message.get("reasoning"):
        cleaned["reasoning_content"] = str(reasoning)
    for name in ("name", "tool_call_id"):
        if message.get(name):
            cleaned[name] = str(message[name])
    if calls := message.get("tool_calls"):
        cleaned["tool_calls"] = [_call(call) for call in calls]
    return cleaned


def prompt_hash(messages: Sequence[Message], tools: Sequence[Any] | None) -> str:
    """The canonical prompt: same words and tools, whatever the spacing and the form of the characters."""
    return _digest([[_canonical(message) for message in messages], list(tools or ())])


def answer_hash(message: Message) -> str:
    return _digest(_canonical(message))


def same_answer(one: Message, other: Message) -> bool:
    return answer_hash(one) == answer_hash(other)


def is_empty(message: Message) -> bool:
    return not (message["content"].strip() or message.get("tool_calls"))


def words(message: Message) -> int:
    """How much there is to read."""
    return len(message["content"].split())


def _canonical(message: Message) -> Message:
    """What the answer thought before it spoke is not what it said."""
    squeezed = {name: " ".join(unicodedata.normalize("NFC", message.get(name) or "").split()) for name in TEXT_FIELDS}
    calls = [call["function"] for call in message.get("tool_calls", ())]
    return {**{name: text for name, text in squeezed.items() if name != "reasoning_content"}, "tool_calls": calls}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise UnsupportedContent("the message holds something that is not text")


def _call(call: Mapping[str, Any]) -> Message:
    function = call.get("function") or {}
    arguments = function.get("arguments") or ""
    return {
        "id": str(call.get("id") or ""),
        "type": str(call.get("type") or "function"),
        "function": {
            "name": str(function.get("name") or ""),
            "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments, sort_keys=True),
        },
    }
