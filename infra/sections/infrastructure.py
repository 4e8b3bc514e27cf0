"""What the rooms share: event log, database, broker, keys, logs."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator

from infra.sections.base import Section

POSTGRES_PORT = 5432


class InfraSettings(Section):
    profile: Literal["embedded", "full"] = Field(
        "embedded", description="Which parts to run on: embedded needs no servers; full is Kafka, PostgreSQL and Redis."
    )
    database_url: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL; empty means state.db in the state directory."
    )
    keyring_url: SecretStr = Field(
        SecretStr(""),
        description="SQLAlchemy URL of a PostgreSQL database for data keys alone, needed by more than one host; empty"
        " means keyring.db in the state directory.",
    )
    kafka_bootstrap_servers: tuple[str, ...] = Field((), description="Brokers to ask first, as host:port.")
    kafka_topic_prefix: str = Field(
        "", description="Put before the names of topics and groups, in a cluster that others use too."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How brokers are spoken to."
    )
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="How we say who we are, where the protocol is one of SASL's."
    )
    kafka_sasl_username: str = Field("", description="The user of PLAIN and SCRAM.")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="That user's password.")
    kafka_ssl_cafile: str = Field("", description="PEM file of the authority that signed the brokers' certificates.")
    kafka_ssl_certfile: str = Field("", description="PEM file of our own certificate, where brokers ask for one.")
    kafka_ssl_keyfile: str = Field("", description="PEM file of that certificate's key.")
    redis_url: SecretStr = Field(SecretStr(""), description="Redis of the full profile, as redis://:PASSWORD@HOST/0.")
    artifacts_url: str = Field(
        "", description="fsspec URL of the artifact store; empty means artifacts/ in the state directory."
    )
    eventlog_partitions: int = Field(
        4, ge=1, description="Partitions per topic; consumers share a topic by partitions."
    )
    eventlog_retention_days: float = Field(90, gt=0, description="Events older than this leave the log.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lowest level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="auto: console on a terminal, JSON elsewhere."
    )
    lease_ttl_s: float = Field(10, gt=0, description="A lease without a heartbeat for this long may be taken over.")
    secret: SecretStr | None = Field(
        None, description="Root secret of tokens, ids and rater hashes; embedded mode makes one at the first start."
    )

    @model_validator(mode="after")
    def full_names_its_servers(self) -> Self:
        needed = ("kafka_bootstrap_servers", "database_url", "redis_url", "secret")
        missing = [name for name in needed if not getattr(self, name)]
        if self.profile == "full" and missing:
            raise ValueError(f"the full profile needs {', '.join(missing)}: set them, or run `make services`")
        return self

    @model_validator(mode="after")
    def keys_lie_apart(self) -> Self:
        keys, main = (url.get_secret_value() for url in (self.keyring_url, self.database_url))
        if keys and not keys.startswith("postgresql"):
            raise ValueError("keyring_url: must be a postgresql URL; for a file of this host leave it empty")
        if keys and main.startswith("postgresql") and _place(keys) == _place(main):
            raise ValueError(
                "keyring_url: names the same database as database_url: the keys need one of their own, since a backup"
                " that holds them brings erased people back"
            )
        return self


def _place(url: str) -> tuple[str | None, int, str]:
    """Host, port and database: two addresses of one database differ in nothing else."""
    parts = urlsplit(url)
    return parts.hostname, parts.port or POSTGRES_PORT, parts.path
