"""The names of "no adapter": one that follows the settings, and one for each base."""

import pytest

from infra.contracts.routing import BASE_VERSION, base_version, is_base
from tests.support.routing import BASE_REVISION, make_replica, make_route, make_table

NEW = "fedcba987654"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("base", True),
        (f"base-{NEW}", True),
        (f"base-{NEW}0", False),
        ("base-1", False),
        ("assistant-1-aaaaaaaa", False),
    ],
)
def test_a_base_is_known_by_its_name(name: str, expected: bool) -> None:
    assert is_base(name) is expected


def test_a_replica_with_nothing_verified_has_no_base_either() -> None:
    own = base_version(BASE_REVISION)
    assert make_replica(versions=["base"]).has(own)
    assert not make_replica(versions=[]).has(own)


def test_a_table_knows_the_base_of_what_some_replica_has() -> None:
    table = make_table(replicas=[make_replica(), make_replica(name="n", base_revision=NEW, versions=["n1"])])
    assert [table.base_of(name) for name in ("base", "n1", "gone")] == [BASE_REVISION, NEW, None]


def test_a_flip_on_the_same_base_renames_nothing_and_one_to_another_names_what_it_leaves() -> None:
    route = make_route(previous=["v1"])
    assert (route.flipped("v2", "r1").previous, route.flipped("v2", "r1").base_revision) == (
        ["base", "v1"],
        BASE_REVISION,
    )
    moved = route.flipped(base_version(NEW), "r1", NEW)
    assert (moved.previous, moved.base_revision) == ([base_version(BASE_REVISION), "v1"], NEW)
    assert moved.flipped(BASE_VERSION, "r2", BASE_REVISION).previous[0] == base_version(NEW)
