"""One answered request in the shape that rows are made of: its prompt, its answers, and whose they are."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from feedback.judgements import conversation
from feedback.judgements.consent import Said
from feedback.judgements.conversation import Message, UnsupportedContent
from feedback.votes import Answered, Judge, Order
from infra.contracts.events import Choice, Inference, InferenceStatus

Tokens: TypeAlias = "array[int] | None"  # quoted: Python 3.11 can't subscript it


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of one response. `behaviour_logprob` is the sum over its tokens as they were sampled, in nats.

    `token_ids` are the engine's, and None unless each has its log-probability.
    """

    ref: str  # response id and index
    message: Message
    digest: str
    version: str
    finish_reason: str | None
    behaviour_logprob: float | None
    arm: str = ""
    arm_propensity: float | None = None
    token_ids: Tokens = None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The whole conversation so far, and what was answered to it.

    `sampling` is JSON of what shaped the draw. Of what isn't a number only the name: stop words may quote the prompt.
    """

    event: Answered
    prompt: tuple[Message, ...]
    tools: tuple[Any, ...]
    prompt_id: str
    answers: Mapping[int, Answer]
    sampling: str = "{}"
    prompt_token_ids: Tokens = None

    def without_body(self) -> "Exchange":
        """All that rows and filters need, in a fraction of the memory: four bytes a token."""
        body = self.event.body.model_copy(update={"request": {}, "choices": [], "prompt_token_ids": []})
        envelope = self.event.envelope.model_copy(update={"sealed": b""})
        return replace(self, event=replace(self.event, envelope=envelope, body=body))

    @property
    def owner(self) -> Said:
        consent = self.event.envelope.consent
        return Said(self.event.envelope.rater, consent.train, consent.explicit)


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answered request of which no row can be made, and why."""

    reason: str

    def without_body(self) -> "Unusable":
        return self


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of a conversation: when it was given, by which alias, and who has judged it by itself."""

    response_id: str
    alias: str
    order: Order
    judged_by: frozenset[Judge] = frozenset()


@dataclass(frozen=True, slots=True)
class Answers:
    """What votes are about, as far as it has come: by response id, and by session id the turns in their order."""

    exchanges: Mapping[str, Exchange | Unusable]
    conversations: Mapping[str, Sequence[Turn]] = field(default_factory=dict)


def make_exchange(event: Answered) -> Exchange | Unusable:
    body = event.body
    if body.shadow_of is not None:
        return Unusable("shadow")
    if not body.stored:
        return Unusable("not_stored")
    if body.status is not InferenceStatus.COMPLETED:
        return Unusable("unfinished")
    try:
        prompt = tuple(conversation.clean(message) for message in body.request.get("messages") or ())
        answers = {choice.index: _answer(body.response_id, choice) for choice in body.choices if choice.message}
    except UnsupportedContent:
        return Unusable("unsupported_content")
    tools = tuple(body.request.get("tools") or ())
    prompt_id, asked = conversation.prompt_hash(prompt, tools), _tokens(body.prompt_token_ids)
    return Exchange(event, prompt, tools, prompt_id, answers, _sampling(body), asked)


def _sampling(body: Inference) -> str:
    called, shaped = body.request.get("tool_choice"), body.request.get("response_format")
    given = {name: value for name, value in body.sampling.items() if value not in (None, "", [], {})}
    said: dict[str, Any] = {name: value if isinstance(value, int | float) else True for name, value in given.items()}
    if called:
        said["tool_choice"] = called if isinstance(called, str) else "named"
    if shaped:
        said["response_format"] = str(shaped.get("type"))
    return json.dumps(said, sort_keys=True)


def _tokens(ids: Sequence[int]) -> Tokens:
    return array("i", ids) if ids else None


def _answer(response_id: str, choice: Choice) -> Answer:
    message = conversation.clean({"role": "assistant", **(choice.message or {})})
    return Answer(
        ref=f"{response_id}#{choice.index}",
        message=message,
        digest=conversation.answer_hash(message),
        version=choice.version,
        finish_reason=choice.finish_reason,
        behaviour_logprob=sum(choice.logprobs) if choice.logprobs else None,
        arm=choice.arm,
        arm_propensity=choice.arm_propensity,
        token_ids=_tokens(choice.token_ids) if len(choice.token_ids) == len(choice.logprobs) else None,
    )
