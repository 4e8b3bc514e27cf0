"""What a client asked for, split in two: what the gateway keeps for itself, and what the engine is sent."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from gateway.errors import RULE, BadRequest

KEPT = frozenset({"user", "safety_identifier", "metadata", "store"})  # read here, of no use to the engine
RESERVED = frozenset(  # only the gateway may say these to the engine, whatever a client sends
    {"request_id", "priority", "cache_salt", "kv_transfer_params", "ec_transfer_params", "vllm_xargs", "session_id"}
)
WITHHELD = KEPT | RESERVED
SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed",
    "stop", "stop_token_ids", "include_stop_str_in_output", "ignore_eos", "min_tokens", "logit_bias", "bad_words",
    "allowed_token_ids", "n", "use_beam_search", "length_penalty", "truncate_prompt_tokens", "structured_outputs",
)  # fmt: skip
ENGINE_DEFAULTS: dict[str, Any] = {  # vLLM's own, beneath the model's generation_config.json
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
CONTENT = (
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "chat_template_kwargs",
    "documents",
    "reasoning_effort",
)

MAX_DEPTH = 100  # readers of the event give up at 200, and it stands some levels deeper there

Text = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Flag = Literal["true", "false"]


class Metadata(BaseModel):
    """OpenAI's free-form field: these keys mean something here, the others are ignored."""

    model_config = ConfigDict(extra="allow")

    session_id: Text | None = None
    segment: Text | None = None
    consent_train: Flag | None = None
    parent_response_id: Text | None = None
    regenerated_from: Text | None = None
    rateable: Flag = "true"
    rollouts: Flag = Field("true", description="false: always the champion's answer.")


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="allow")

    include_usage: StrictBool | None = None


class Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str


class ChatRequest(BaseModel):
    """OpenAI's chat completion request. Fields that are not listed go to the engine untouched."""

    model_config = ConfigDict(extra="allow")

    model: Text = Field(description="The alias, or a version that it routes now.")
    messages: list[Message] = Field(min_length=1)
    n: StrictInt | None = Field(None, ge=1, le=128)
    stream: StrictBool | None = None
    stream_options: StreamOptions | None = None
    logprobs: StrictBool | None = None
    top_logprobs: StrictInt | None = Field(None, ge=0)
    return_token_ids: StrictBool | None = None
    user: Text | None = Field(None, description="The end user, later the rater; known inside by a keyed hash only.")
    safety_identifier: Text | None = None
    metadata: Metadata | None = None
    store: StrictBool | None = Field(None, description="false: no content is kept, only that an answer was given.")

    @model_validator(mode="after")
    def options_fit_together(self) -> "ChatRequest":
        """The engine is always asked for log-probabilities, so it could no longer object itself."""
        if self.top_logprobs and not self.logprobs:
            raise ValueError("when using `top_logprobs`, `logprobs` must be set to true")
        if self.stream_options is not None and not self.stream:
            raise ValueError("`stream_options` needs `stream`")
        return self

    @property
    def person(self) -> str | None:
        return self.user or self.safety_identifier

    @property
    def about(self) -> Metadata:
        return self.metadata or Metadata()

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


def parse(body: bytes) -> tuple[ChatRequest, dict[str, Any]]:
    """The request and the client's own JSON, decoded once; raises BadRequest naming the field."""
    try:
        sent = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}", code="invalid_json") from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and too_deep(sent):
        raise BadRequest(f"the body is nested more than {MAX_DEPTH} levels deep", code="nested_too_deeply")
    try:
        return ChatRequest.model_validate(sent), sent
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, message = ".".join(str(part) for part in first["loc"]) or None, first["msg"].removeprefix(RULE)
        raise BadRequest(f"{name}: {message}" if name else message, param=name, code=first["type"]) from None


def too_deep(value: Any) -> bool:
    """Level by level, since what is nested deeply enough would end a recursion."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def engine_body(sent: Mapping[str, Any], *, model: str, cache_salt: str) -> dict[str, Any]:
    """The client's fields, and always token ids and log-probabilities: what training needs can't be asked for later."""
    body = {name: value for name, value in sent.items() if name not in WITHHELD}
    body.update(model=model, cache_salt=cache_salt, logprobs=True, return_token_ids=True)
    if sent.get("stream"):
        body["stream_options"] = {**(sent.get("stream_options") or {}), "include_usage": True}
    return body


def resolved_sampling(sent: Mapping[str, Any], model_defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer was really sampled with: request over generation_config.json over the engine's defaults."""
    limit = model_defaults.get("max_new_tokens")
    known = {name: value for name, value in model_defaults.items() if name != "max_new_tokens"}
    asked = {name: sent[name] for name in SAMPLING if sent.get(name) is not None}
    max_tokens = next((sent[n] for n in ("max_completion_tokens", "max_tokens") if sent.get(n) is not None), limit)
    return {**ENGINE_DEFAULTS, **known, **asked, "max_tokens": max_tokens}


def content(sent: Mapping[str, Any]) -> dict[str, Any]:
    """What the prompt was made of."""
    return {name: sent[name] for name in CONTENT if sent.get(name) is not None}


def turn(sent: Mapping[str, Any]) -> int:
    """1 for the first answer of a conversation."""
    answers = [message for message in sent["messages"] if message.get("role") == "assistant"]
    return 1 + len(answers)
