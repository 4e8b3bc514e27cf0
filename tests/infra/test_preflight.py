import socket
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import pytest
from uuid6 import uuid7

from infra.database.migrate import downgrade
from infra.home import prepare
from infra.keystore.sqlite import SqliteKeyStore
from infra.ports import Ports
from infra.preflight import (
    GIB,
    Finding,
    Unfit,
    check_base,
    check_clock,
    check_disk,
    check_engine,
    check_keyring,
    check_memory,
    check_port,
    check_schema,
    check_topics,
    free_port,
    refuse_unfit,
)  # fmt: skip
from infra.servers import ahead_s
from infra.services.kafka import Kafka
from infra.services.postgres import Postgres
from infra.settings import ServingSettings, Settings, load_settings
from tests.support.model_files import make_model_files
from tests.support.servers import fresh_database

Usage = namedtuple("Usage", "total used free")


def test_a_model_directory_is_fit(tmp_path: Path) -> None:
    assert check_base(ServingSettings(model=str(make_model_files(tmp_path)))).problem == ""


def test_a_start_without_a_model_says_how_to_give_one() -> None:
    assert "thumbwheel up --model DIR" in check_base(ServingSettings()).problem


@pytest.mark.parametrize(
    ("without", "message"), [("config.json", "config.json missing"), ("model.safetensors", "no .safetensors weights")]
)
def test_a_model_that_is_not_whole_is_named_with_what_is_missing(tmp_path: Path, without: str, message: str) -> None:
    found = check_base(ServingSettings(model=str(make_model_files(tmp_path, without=without))))
    assert message in found.problem
    assert str(tmp_path) in found.problem


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port} is taken" in check_port("127.0.0.1", port).problem
    assert check_port("127.0.0.1", 0).problem == ""


def test_an_address_of_another_machine_is_no_taken_port() -> None:
    assert "cannot be used" in check_port("203.0.113.7", 0).problem


def test_too_little_memory_says_how_much_is_needed_and_there(tmp_path: Path) -> None:
    settings = ServingSettings(model=str(make_model_files(tmp_path)), kv_cache_gib=1)
    assert check_memory(settings, 64 * GIB).problem == ""
    assert "about 4.0 GiB are needed, 2.0 GiB are free" in check_memory(settings, 2 * GIB).problem


def test_more_replicas_need_more_memory(tmp_path: Path) -> None:
    model = str(make_model_files(tmp_path))
    assert check_memory(ServingSettings(model=model, replicas=1), 5 * GIB).problem == ""
    assert check_memory(ServingSettings(model=model, replicas=3), 5 * GIB).problem != ""
    following = ServingSettings(model=model, next_model=model, next_replicas=2)
    assert check_memory(following, 5 * GIB) == check_memory(ServingSettings(model=model, replicas=3), 5 * GIB)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    home = tmp_path / "not" / "yet" / "made"
    assert f"under {tmp_path}" in check_disk(home, lambda _path: Usage(1, 1, GIB // 2)).problem  # type: ignore[arg-type]
    assert check_disk(home, lambda _path: Usage(1, 1, 5 * GIB)).problem == ""  # type: ignore[arg-type]


def test_an_engine_that_is_not_installed_is_refused_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "vLLM is not installed" in check_engine().problem


def test_a_keyring_file_is_named_and_not_made_by_looking_for_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert check_keyring(settings).detail == "will be made at the first start"
    assert not list(tmp_path.iterdir())
    SqliteKeyStore(tmp_path / "keyring.db")
    assert check_keyring(settings).detail == str(tmp_path / "keyring.db")


def test_a_keyring_database_is_named_without_its_password(tmp_path: Path, postgres: Postgres) -> None:
    url = fresh_database(postgres)
    found = check_keyring(Settings.model_validate({"home": tmp_path, "infra": {"keyring_url": url}}))
    assert found.problem == ""
    assert url.rpartition("/")[2] in found.detail
    assert url.split(":")[2].partition("@")[0] not in found.detail


def test_a_keyring_database_that_is_away_is_a_problem(tmp_path: Path) -> None:
    infra = {"keyring_url": f"postgresql+psycopg://me:do-not-show@127.0.0.1:{free_port('127.0.0.1')}/keys"}
    problem = check_keyring(Settings.model_validate({"home": tmp_path, "infra": infra})).problem
    assert "does not answer" in problem and "infra.keyring_url" in problem
    assert "do-not-show" not in problem


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings.model_validate(
            {"home": tmp_path, "gateway": {"port": taken.getsockname()[1]}, "serving": {"model": str(tmp_path / "no")}}
        )
        with pytest.raises(Unfit) as refused:
            refuse_unfit(settings)
    assert len(str(refused.value).splitlines()) == 2


def full_settings(home: Path, kafka: Kafka, postgres: Postgres) -> Settings:
    """On servers of which Redis is never asked; nothing of ours is on the others yet."""
    environ = {
        "THUMBWHEEL_INFRA__PROFILE": "full",
        "THUMBWHEEL_INFRA__KAFKA_BOOTSTRAP_SERVERS": kafka.address,
        "THUMBWHEEL_INFRA__KAFKA_TOPIC_PREFIX": f"{uuid7().hex}.",
        "THUMBWHEEL_INFRA__DATABASE_URL": fresh_database(postgres),
        "THUMBWHEEL_INFRA__REDIS_URL": "redis://127.0.0.1:1/0",
        "THUMBWHEEL_INFRA__SECRET": "0" * 64,
    }
    return load_settings(home, environ)


def test_topics_that_are_missing_are_named_with_the_command_that_makes_them(
    tmp_path: Path, kafka: Kafka, postgres: Postgres
) -> None:
    settings = full_settings(tmp_path, kafka, postgres)
    found = check_topics(settings.infra)
    assert "thumbwheel.feedback.v1" in found.problem
    assert "thumbwheel infra init" in found.problem
    prepare(settings)
    assert check_topics(settings.infra) == Finding("topics", "all are there")


def test_an_older_schema_is_named_with_the_command_that_mends_it(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, {})
    assert check_schema(settings) == Finding("schema", "will be made at the first start")
    assert list(tmp_path.iterdir()) == []
    prepare(settings)
    assert check_schema(settings).detail.startswith("migration ")
    with closing(Ports(settings)) as ports:
        downgrade(ports.database, "0002")
    assert "thumbwheel infra migrate" in check_schema(settings).problem


def test_a_clock_that_differs_from_the_database_s_is_named(tmp_path: Path, kafka: Kafka, postgres: Postgres) -> None:
    settings = full_settings(tmp_path, kafka, postgres).infra
    assert abs(ahead_s(settings)) < 1
    assert check_clock(settings, ahead_s).problem == ""
    assert "7.0 s behind the database's" in check_clock(settings, lambda _settings: -7.0).problem


def test_a_server_that_is_away_is_no_clean_bill(tmp_path: Path) -> None:
    nobody = {"THUMBWHEEL_INFRA__DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none"}
    settings = load_settings(tmp_path, nobody)
    assert "refused" in check_schema(settings).problem
    assert "refused" in check_clock(settings.infra, ahead_s).problem
