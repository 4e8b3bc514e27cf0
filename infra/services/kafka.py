"""Apache Kafka: one KRaft node that is broker and controller, from the jars that `make services` fetches."""

import shutil
import socket
from base64 import urlsafe_b64encode
from pathlib import Path
from uuid import uuid4

from kafka import KafkaAdminClient

from infra.services.base import HOST, NotInstalled, Service, run
from infra.settings import cache_directory

VERSION = "4.3.0"
HEAP = "512m"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024  # a dead letter holds a whole record, and a third more as base64


class Kafka(Service):
    """`port` is the clients'; the controller listens on the one given beside it."""

    name = "kafka"

    def __init__(self, directory: Path, port: int, controller_port: int, *, bound: bool = False) -> None:
        super().__init__(directory, port, bound=bound)
        self._controller_port = controller_port

    def prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        if shutil.which("java") is None or not any(jars().glob("kafka_*.jar")):
            raise NotInstalled("Kafka")
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))
        cluster = self.directory / "cluster"
        if not cluster.is_file():
            cluster.write_text(new_cluster_id())
        run(
            [*_java(), "kafka.tools.StorageTool", "format", "--ignore-formatted", "--standalone",
             "-t", cluster.read_text(), "-c", str(self._properties)],
            what="kafka format", cwd=self.directory,
        )  # fmt: skip

    def argv(self) -> list[str]:
        return [*_java(), "kafka.Kafka", str(self._properties)]

    def check(self) -> str:
        with socket.create_connection((HOST, self.port), timeout=1):  # the client would leave sockets behind
            pass
        admin = KafkaAdminClient(bootstrap_servers=self.address, bootstrap_timeout_ms=2000, request_timeout_ms=2000)
        try:
            admin.describe_cluster()
        finally:
            admin.close()
        return f"Apache Kafka {VERSION}"

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    def _settings(self) -> dict[str, object]:
        """https://kafka.apache.org/43/configuration/broker-configs/"""
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "controller.quorum.bootstrap.servers": f"{HOST}:{self._controller_port}",
            "log.dirs": self.directory / "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 8,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "message.max.bytes": MAX_MESSAGE_BYTES,
        }


def new_cluster_id() -> str:
    """As Kafka's own tool makes them; one that begins with a dash would be taken for an option."""
    made = urlsafe_b64encode(uuid4().bytes).decode().rstrip("=")
    return new_cluster_id() if made.startswith("-") else made


def jars() -> Path:
    """Where `make services` puts the broker."""
    return cache_directory() / f"kafka-{VERSION}"


def _java() -> list[str]:
    return [
        "java", f"-Xmx{HEAP}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", f"{jars()}/*",
    ]  # fmt: skip
