"""One answered request in the shape that rows are made of: its prompt, its answers, and whose they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from feedback.judgements import conversation
from feedback.judgements.consent import Said
from feedback.judgements.conversation import Message, UnsupportedContent
from feedback.votes import Answered, Judge, Order
from infra.contracts.events import Choice, InferenceStatus


@dataclass(frozen=True, slots=True)
class Answer:
    """One choice of one response. `behaviour_logprob` is the sum over its tokens as they were sampled, in nats."""

    ref: str  # response id and index
    message: Message
    digest: str
    version: str
    finish_reason: str | None
    behaviour_logprob: float | None


@dataclass(frozen=True, slots=True)
class Exchange:
    """The whole conversation so far, and what was answered to it."""

    event: Answered
    prompt: tuple[Message, ...]
    tools: tuple[Any, ...]
    prompt_id: str
    answers: Mapping[int, Answer]

    def without_tokens(self) -> "Exchange":
        """All that rows and filters need, in a fraction of the memory."""
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

    def without_tokens(self) -> "Unusable":
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
    return Exchange(event, prompt, tools, conversation.prompt_hash(prompt, tools), answers)


def _answer(response_id: str, choice: Choice) -> Answer:
    message = conversation.clean({"role": "assistant", **(choice.message or {})})
    return Answer(
        ref=f"{response_id}#{choice.index}",
        message=message,
        digest=conversation.answer_hash(message),
        version=choice.version,
        finish_reason=choice.finish_reason,
        behaviour_logprob=sum(choice.logprobs) if choice.logprobs else None,
    )
