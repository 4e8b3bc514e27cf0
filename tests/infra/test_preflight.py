import socket
from collections import namedtuple
from pathlib import Path

import pytest

from infra.keystore.sqlite import SqliteKeyStore
from infra.preflight import (
    GIB,
    Unfit,
    check_base,
    check_disk,
    check_engine,
    check_keyring,
    check_memory,
    check_port,
    free_port,
    refuse_unfit,
)  # fmt: skip
from infra.services.postgres import Postgres
from infra.settings import ServingSettings, Settings
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
