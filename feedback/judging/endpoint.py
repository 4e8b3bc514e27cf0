"""One chat model behind any OpenAI-compatible HTTP endpoint: asked at temperature 0, again where it may be away."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from pydantic import SecretStr
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from feedback.errors import FeedbackError
from infra.settings import FeedbackSettings

RETRIED = frozenset({408, 409, 425, 429})  # and everything from 500 on
SHOWN = 200  # characters of what the endpoint says of its trouble
WAITS_S = (0.25, 20.0)  # the first wait before another attempt, and the longest


class JudgeRefused(FeedbackError):
    """The endpoint refuses, and will again: a wrong key, address or model."""


class JudgeAway(FeedbackError):
    """The endpoint did not answer, or answered that it can't just now."""


class Unclear(FeedbackError):
    """The answer says neither A nor B nor tie."""


@dataclass
class Usage:
    """What it cost so far. Tokens are as the endpoint counts them; 0 where it does not."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def add(self, body: Mapping[str, Any]) -> None:
        told = body.get("usage")
        if isinstance(told, dict):
            self.prompt_tokens += int(told.get("prompt_tokens") or 0)
            self.completion_tokens += int(told.get("completion_tokens") or 0)


@dataclass(frozen=True)
class Endpoint:
    """`first_wait_s` doubles from attempt to attempt."""

    session: aiohttp.ClientSession
    url: str
    settings: FeedbackSettings
    first_wait_s: float = WAITS_S[0]
    usage: Usage = field(default_factory=Usage)

    async def complete(self, messages: Sequence[Mapping[str, str]], more: Mapping[str, Any]) -> str:
        """The text of the answer; raises JudgeRefused, JudgeAway, or Unclear where it is no chat completion."""
        body = {
            "model": self.settings.judge_model, "messages": list(messages), "temperature": 0,
            "max_tokens": self.settings.judge_max_tokens, **more,
        }  # fmt: skip
        attempts = AsyncRetrying(
            retry=retry_if_exception_type(JudgeAway),
            stop=stop_after_attempt(self.settings.judge_attempts),
            wait=wait_exponential_jitter(max=WAITS_S[1], jitter=self.first_wait_s, multiplier=self.first_wait_s),
            reraise=True,
        )
        answer: dict[str, Any] = await attempts(self._post, body)
        self.usage.add(answer)
        return _text(answer)

    async def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.usage.requests += 1
        try:
            async with self.session.post(f"{self.url}/chat/completions", json=body) as reply:
                if reply.status != 200:
                    raise _refusal(reply.status, (await reply.text(errors="replace"))[:SHOWN])
                answer = await reply.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise JudgeAway(f"the judge at {self.url} did not answer: {error or type(error).__name__}") from None
        except ValueError:
            raise Unclear("the judge's reply is no JSON") from None
        if not isinstance(answer, dict):
            raise Unclear("the judge's reply is no JSON object")
        return answer


@asynccontextmanager
async def open_endpoint(settings: FeedbackSettings, key: SecretStr | None) -> AsyncIterator[Endpoint]:
    headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    async with aiohttp.ClientSession(
        headers=headers,
        timeout=aiohttp.ClientTimeout(total=settings.judge_timeout_s),
        connector=aiohttp.TCPConnector(limit=settings.judge_concurrency),
    ) as session:
        yield Endpoint(session, settings.judge_url.rstrip("/"), settings)


def _refusal(status: int, text: str) -> FeedbackError:
    said = f"the judge's endpoint answered {status}: {' '.join(text.split())}"
    return JudgeAway(said) if status in RETRIED or status >= 500 else JudgeRefused(said)


def _text(answer: Mapping[str, Any]) -> str:
    """The first choice's content; raises Unclear."""
    match answer:
        case {"choices": [{"message": {"content": str(content)}}, *_]}:
            return content
    raise Unclear("the judge's reply holds no text")
