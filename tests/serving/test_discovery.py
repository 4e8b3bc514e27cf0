"""Engines that somebody else started: found by a list, a name or a file; what can't be read changes nothing."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import ServingSettings
from serving.discovery import BadList, Discovery, found_replica, host_and_port, listed, look_up, normal


class Names:
    """A name server. It is away where it knows nothing."""

    def __init__(self, *ips: str) -> None:
        self.ips = list(ips)

    async def resolve(self, host: str, _port: int) -> list[str]:
        if not self.ips:
            raise OSError(f"{host}: no address")
        return self.ips


def discovery(names: Names | None = None, **settings: object) -> Discovery:
    known = ServingSettings.model_validate(settings)
    return Discovery(known, asyncio.Event(), names.resolve if names else None)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('["gpu-1:8000", "https://gpu-2:8000"]', ["http://gpu-1:8000", "https://gpu-2:8000"]),
        ("gpu-1:8000\n\n# spare\ngpu-2:8000  # the big one\n", ["http://gpu-1:8000", "http://gpu-2:8000"]),
        ("[]", []),
    ],
)
def test_a_file_holds_a_json_list_or_lines(text: str, found: list[str]) -> None:
    assert listed(text) == found


@pytest.mark.parametrize("text", ["", "  \n", "# nobody\n", '["gpu-1:80', "gpu-1", "gpu-1:port", "http://gpu-1:80/v1"])
def test_a_file_that_is_half_written_or_wrong_names_nobody(text: str) -> None:
    with pytest.raises(BadList):
        listed(text)


def test_an_address_may_go_without_its_scheme_and_be_of_ipv6() -> None:
    assert normal("gpu-1:8000") == "http://gpu-1:8000"
    assert normal("http://gpu-1:8000/") == "http://gpu-1:8000"
    assert host_and_port("[::1]:8000") == ("::1", 8000)


async def test_all_sources_together_are_the_replicas(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("gpu-9:8000")
    found = discovery(
        Names("10.0.0.1", "fd00::1"),
        replica_addresses=["gpu-1:8000"],
        replica_dns="engines:8000",
        replica_file=str(tmp_path / "list"),
    )
    await found.look()
    assert found.found == {"http://gpu-1:8000", "http://10.0.0.1:8000", "http://[fd00::1]:8000", "http://gpu-9:8000"}


async def test_a_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("gpu-1:8000")
    found = discovery(replica_file=str(path))
    await found.look()
    path.write_text("gpu-2:8000")
    await found.look()
    assert found.found == {"http://gpu-2:8000"}


async def test_a_name_server_that_is_away_takes_no_engine_out_of_service() -> None:
    names = Names("10.0.0.1")
    found = discovery(names, replica_dns="engines:8000")
    await found.look()
    names.ips = []
    await found.look()
    assert found.found == {"http://10.0.0.1:8000"}


async def test_before_everything_could_be_read_nothing_is_known() -> None:
    found = discovery(Names(), replica_dns="engines:8000", replica_addresses=["gpu-1:8000"])
    await found.look()
    assert found.found is None


async def test_without_a_source_nothing_is_ever_found() -> None:
    found = discovery()
    found.start()
    await found.close()
    assert found.found is None


async def test_the_systems_own_resolver_is_asked() -> None:
    assert "127.0.0.1" in await look_up("localhost", 8000)


def test_one_that_was_found_is_named_by_where_it_is_and_has_no_base_yet() -> None:
    found = found_replica("http://gpu-1:8000")
    assert (found.name, found.base_revision, found.discovered) == ("gpu-1:8000", "", True)


def test_no_replicas_at_all_is_no_setting() -> None:
    with pytest.raises(ValidationError, match="replica_addresses"):
        ServingSettings(replicas=0)
    assert ServingSettings(replicas=0, replica_dns="engines:8000").replicas == 0
