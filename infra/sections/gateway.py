"""The gateway's settings."""

from pydantic import Field

from infra.sections.base import Section


class GatewaySettings(Section):
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8080, ge=0, le=65535, description="Port the gateway listens on; 0 picks a free one.")
    alias: str = Field("assistant", description="The model name that clients ask for.")
    offer_queries: bool = Field(
        False,
        description="Whether raters get questions that training chose: a consenting person's prompt, shown to others.",
    )
    cors_origins: tuple[str, ...] = Field((), description="Browser origins that may vote with an answer's token.")
    consent_default: bool = Field(
        False, description="Whether an answer may be trained on where the request says nothing."
    )
    max_body_bytes: int = Field(4 * 1024 * 1024, gt=0, description="Larger request bodies are refused with 413.")
    upstream_timeout_s: float = Field(300, gt=0, description="Longest silence of the engine before 504.")
    connect_timeout_s: float = Field(2, gt=0, description="Longest wait for a connection to the engine before 503.")
    upstream_connections: int = Field(1024, gt=0, description="Pooled connections to the engines.")
    mirror_most: int = Field(
        16, ge=0, description="Most requests that one gateway mirrors to a shadow at a time; others are not mirrored."
    )
    routing_poll_s: float = Field(0.1, gt=0, description="How often the routing table is read again.")
    routing_max_age_s: float = Field(
        60, gt=0, description="After this long without a readable table everything goes to its champion."
    )
    token_ttl_s: float = Field(7 * 86400, gt=0, description="How long an answer's feedback token is good for.")
    spool_max_bytes: int = Field(256 * 1024 * 1024, gt=0, description="Most that the local spool may hold.")
    log_ack_timeout_s: float = Field(
        2, gt=0, description="A vote the log has not acknowledged by then goes to the spool."
    )
    drain_timeout_s: float = Field(20, ge=1, description="Longest a stopping gateway waits for answers under way.")
    inline_body_limit: int = Field(512 * 1024, gt=0, description="Larger event bodies go to the artifact store.")
    export_wait_s: float = Field(5, ge=0, description="Longest a request waits for a person's export; then 202.")
