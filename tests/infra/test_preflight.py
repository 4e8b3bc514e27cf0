import socket
from collections import namedtuple
from pathlib import Path

import pytest

from infra.preflight import GIB, Unfit, check_base, check_disk, check_engine, check_memory, check_port, refuse_unfit
from infra.settings import ServingSettings, Settings
from tests.support.model_files import make_model_files

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
