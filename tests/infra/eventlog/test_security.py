"""A broker that asks for TLS and a password, reached with the settings that an operator has for it."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.eventlog.base import LogUnavailable
from infra.eventlog.kafka import KafkaEventLog
from infra.ports import open_kafka
from infra.preflight import free_port
from infra.services.base import HOST
from infra.services.kafka import Kafka
from infra.settings import InfraSettings
from tests.infra.eventlog.test_conformance import PATIENCE_S, TOPIC, read
from tests.support.certificates import make_certificates
from tests.support.servers import missing_is_skipped

USER, PASSWORD = "thumbwheel", "open sesame"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class GuardedKafka(Kafka):
    """`address` is for whoever looks after it; everybody else has to come in at `guarded_port`."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, free_port(HOST), free_port(HOST), bound=True)
        self.guarded_port = free_port(HOST)
        self.authority = directory / "authority.pem"

    def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        make_certificates(HOST, authority=self.authority, server=self.directory / "server.pem")
        super().prepare()

    def _settings(self) -> dict[str, object]:
        """https://kafka.apache.org/43/security/"""
        given = super()._settings()
        listeners = str(given["listeners"]).replace("PLAINTEXT://", "INSIDE://")
        return {
            **given,
            "listeners": f"{listeners},GUARDED://{HOST}:{self.guarded_port}",
            "listener.security.protocol.map": "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
            "inter.broker.listener.name": "INSIDE",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.directory / "server.pem",
            "listener.name.guarded.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.guarded.plain.sasl.jaas.config": f'{LOGIN} required user_{USER}="{PASSWORD}";',
        }


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedKafka]:
    with TemporaryDirectory(prefix="thumbwheel-guarded-") as directory:
        made = GuardedKafka(Path(directory))
        with missing_is_skipped():
            made.start()
        yield made
        made.stop()


def opened(guarded: GuardedKafka, **settings: str) -> KafkaEventLog:
    """With what `infra.kafka_…` is set to."""
    given = {
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_sasl_username": USER,
        "kafka_sasl_password": PASSWORD,
        "kafka_ssl_cafile": str(guarded.authority),
        **settings,
    }
    servers = (f"{HOST}:{guarded.guarded_port}",)
    return open_kafka(InfraSettings.model_validate({"kafka_bootstrap_servers": servers, **given}))


def test_records_go_out_and_come_in_through_tls_with_a_password(guarded: GuardedKafka) -> None:
    with closing(opened(guarded)) as log:
        log.prepare({TOPIC: 1})
        with closing(log.producer()) as producer:
            at = producer.append(TOPIC, "one", b"sealed twice").result(timeout=PATIENCE_S)
        with closing(log.consumer("readers", [TOPIC])) as consumer:
            (record,) = read(consumer, 1)
            consumer.commit({(TOPIC, record.position.partition): record.position.offset + 1})
        assert (record.value, record.position) == (b"sealed twice", at)
        assert log.committed("readers", [TOPIC]) == log.end_offsets([TOPIC])
        assert log.read(at) == record


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kafka_sasl_password": "guessed"}, "does not let us in"),
        (
            {"kafka_security_protocol": "PLAINTEXT", "kafka_sasl_mechanism": "", "kafka_ssl_cafile": ""},
            "does not let us in",
        ),
        ({"kafka_ssl_cafile": ""}, "does not let us in"),
    ],
    ids=["a wrong password", "no TLS", "an unknown authority"],
)
def test_who_may_not_come_in_is_told_so(guarded: GuardedKafka, wrong: dict[str, str], said: str) -> None:
    with closing(opened(guarded, **wrong)) as log:
        with pytest.raises(LogUnavailable, match=f"Kafka did not answer: .*{said}"):
            log.end_offsets([TOPIC])
        with (
            closing(log.producer()) as producer,
            pytest.raises(LogUnavailable, match=f"did not take the record: .*{said}"),
        ):
            producer.append(TOPIC, "one", b"refused").result(timeout=PATIENCE_S)
        with closing(log.consumer("readers", [TOPIC])) as consumer, pytest.raises(LogUnavailable, match=said):
            consumer.poll(1, timeout_s=1)
