"""A streamed answer as its client reads it, to the last event."""

import json
from typing import Any

import aiohttp


class NoAnswer(Exception):
    """An error in the place of an answer, or of a vote's receipt; or a stream without its end."""


async def read_stream(reply: aiohttp.ClientResponse) -> list[dict[str, Any]]:
    """Every event of one answer. Raises NoAnswer."""
    text = await reply.text()
    if reply.status != 200:
        raise NoAnswer(f"{reply.status} {text[:200]}")
    *events, last = [event.removeprefix("data: ") for event in text.split("\n\n") if event]
    if last != "[DONE]":
        raise NoAnswer(f"the stream ended with {last[:200]}")
    return [json.loads(event) for event in events]
