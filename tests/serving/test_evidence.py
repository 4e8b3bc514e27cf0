"""The shelf: read-only copies that are checked before each load."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from infra.ports import Ports
from serving.adapters import WEIGHTS, read_base
from serving.errors import Refused
from serving.evidence import EVIDENCE, Shelf
from tests.support.adapters import MadeAdapter, make_adapter, publish, tamper
from tests.support.controllers import copy_in_store, make_evidence
from tests.support.home import make_ports
from tests.support.tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def shelf(ports: Ports, model: Path) -> Shelf:
    return Shelf(ports.home, ports.artifacts, [read_base(model)], max_rank=16)


@pytest.fixture
def made(ports: Ports, tmp_path: Path, model: Path) -> MadeAdapter:
    made = make_adapter(tmp_path / "made", model)
    publish(ports, made, make_evidence(made.version))
    return made


def take(shelf: Shelf, made: MadeAdapter) -> Path:
    return shelf.take(made.manifest, f"adapters/{made.version}")


def writable(directory: Path) -> None:
    directory.chmod(0o755)
    (directory / WEIGHTS).chmod(0o644)


def test_what_is_taken_is_a_copy_that_nobody_may_write(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    local = take(shelf, made)
    assert local == ports.home / "serving" / "adapters" / made.version
    assert oct(local.stat().st_mode & 0o777) == "0o555"
    assert {oct(file.stat().st_mode & 0o777) for file in local.iterdir()} == {"0o444"}


def test_two_replicas_that_take_a_version_at_once_are_given_one_copy(shelf: Shelf, made: MadeAdapter) -> None:
    """The directory that the first was given is still there, under the same inode, when the second has its own."""
    together = Barrier(4)

    def taken(_replica: int) -> int:
        together.wait()
        return take(shelf, made).stat().st_ino

    with ThreadPoolExecutor(4) as replicas:
        assert len(set(replicas.map(taken, range(4)))) == 1


def test_a_second_take_fetches_nothing(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    first = take(shelf, made)
    ports.artifacts.delete([f"adapters/{made.version}"])
    assert take(shelf, made) == first


def test_a_copy_that_went_bad_is_fetched_again(shelf: Shelf, made: MadeAdapter) -> None:
    local = take(shelf, made)
    writable(local)
    tamper(local)
    assert (take(shelf, made) / WEIGHTS).read_bytes() == (made.directory / WEIGHTS).read_bytes()


def test_a_copy_and_a_store_that_both_went_bad_are_refused(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    local = take(shelf, made)
    writable(local)
    tamper(local)
    tamper(copy_in_store(ports, made.version))
    with pytest.raises(Refused, match="published was"):
        take(shelf, made)


def test_a_fetch_that_was_killed_is_swept(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    aside = ports.home / "serving" / "adapters" / f"{made.version}.0123.tmp"
    aside.mkdir(parents=True)
    take(shelf, made)
    assert os.listdir(aside.parent) == [made.version]


def test_what_was_never_published_whole_is_refused(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    (copy_in_store(ports, made.version) / "_READY").unlink()
    with pytest.raises(Refused, match="is not in the artifact store"):
        take(shelf, made)


def test_evidence_is_what_was_published_beside_the_weights(shelf: Shelf, made: MadeAdapter) -> None:
    take(shelf, made)
    assert shelf.evidence(made.version) == make_evidence(made.version)


@pytest.mark.parametrize("content", [None, b"{", b'{"version": "another", "champion": "base"}'])
def test_missing_unreadable_or_foreign_evidence_is_empty(
    shelf: Shelf, made: MadeAdapter, content: bytes | None
) -> None:
    local = take(shelf, made)
    local.chmod(0o755)
    (local / EVIDENCE).unlink()
    if content is not None:
        (local / EVIDENCE).write_bytes(content)
    found = shelf.evidence(made.version)
    assert (found.version, found.smoke, found.judge_win_rate) == (made.version, [], None)


def test_what_an_erasure_takes_out_of_the_evidence_goes_from_the_copy_at_the_next_take(
    shelf: Shelf, made: MadeAdapter, ports: Ports
) -> None:
    local = take(shelf, made)
    redacted = make_evidence(made.version).model_copy(update={"smoke": []})
    ports.artifacts.redact(f"adapters/{made.version}", EVIDENCE, redacted.model_dump_json().encode())
    assert take(shelf, made) == local
    assert shelf.evidence(made.version) == redacted
    assert {oct(path.stat().st_mode & 0o777) for path in (local, local / EVIDENCE)} == {"0o555", "0o444"}


def test_evidence_that_does_not_fit_its_marker_reaches_no_copy(shelf: Shelf, made: MadeAdapter, ports: Ports) -> None:
    take(shelf, made)
    ports.artifacts.write(f"adapters/{made.version}/{EVIDENCE}", b"{}")
    take(shelf, made)
    assert shelf.evidence(made.version) == make_evidence(made.version)
