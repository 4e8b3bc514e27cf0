"""What every keyring must do, wherever its keys lie. `opened` makes one more process' view of the same keys."""

import copy
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from infra.clock import now
from infra.keystore.base import KeyStore
from infra.sealing import KeyDestroyed, Keyring, KeyUnknown, SealBroken
from tests.support.keyrings import ids_of_many, open_store, seconds_until
from tests.support.servers import fresh_database

PATIENCE_S = 10
PROCESSES = 4


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A path or a URL."""
    if request.param == "postgres":
        return fresh_database(request.getfixturevalue("postgres"))
    return str(tmp_path / "keyring.db")


@pytest.fixture
def stores(place: str) -> Iterator[Callable[[], KeyStore]]:
    made: list[KeyStore] = []

    def another() -> KeyStore:
        made.append(open_store(place))
        return made[-1]

    yield another
    for store in made:
        store.close()


@pytest.fixture
def opened(stores: Callable[[], KeyStore]) -> Callable[[], Keyring]:
    return lambda: Keyring(stores())


@pytest.fixture
def keyring(opened: Callable[[], Keyring]) -> Keyring:
    return opened()


def test_what_was_sealed_opens_with_its_key_and_context(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    assert b"hello" not in sealed
    assert keyring.unseal(key_id, sealed, context=b"event") == b"hello"


def test_a_keyring_that_is_sent_to_another_process_takes_no_keys_along(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    sent = copy.deepcopy(keyring)  # reduced and made anew, as multiprocessing does
    assert not sent.knows("default", "rater")
    assert sent.unseal(key_id, sealed, context=b"event") == b"hello"
    sent.close()


def test_another_process_opens_it_too(keyring: Keyring, opened: Callable[[], Keyring]) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    assert opened().unseal(key_id, sealed, context=b"event") == b"hello"


def test_a_box_moved_to_another_event_does_not_open(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    with pytest.raises(SealBroken):
        keyring.unseal(key_id, sealed, context=b"another")


def test_a_changed_or_cut_box_does_not_open(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    for broken in (sealed[:-1], sealed[:5], b"", sealed[:-1] + bytes([sealed[-1] ^ 1])):
        with pytest.raises(SealBroken):
            keyring.unseal(key_id, broken, context=b"event")


def test_a_persons_bodies_share_one_key_and_persons_and_tenants_do_not(keyring: Keyring) -> None:
    ids = {
        who: keyring.seal(tenant, rater, b"x", context=b"")[0]
        for who, (tenant, rater) in enumerate([("a", "r"), ("a", "s"), ("b", "r"), ("a", None)])
    }
    assert len(set(ids.values())) == 4
    assert keyring.seal("a", "r", b"y", context=b"")[0] == ids[0]


def test_destroying_a_persons_key_makes_their_bodies_unreadable_and_nobody_elses(keyring: Keyring) -> None:
    mine, box = keyring.seal("default", "me", b"mine", context=b"")
    other, other_box = keyring.seal("default", "you", b"yours", context=b"")
    assert keyring.destroy("default", "me") == [mine]
    with pytest.raises(KeyDestroyed):
        keyring.unseal(mine, box, context=b"")
    assert keyring.unseal(other, other_box, context=b"") == b"yours"


def test_later_use_by_the_same_person_starts_a_new_key(keyring: Keyring) -> None:
    old, _ = keyring.seal("default", "me", b"before", context=b"")
    keyring.destroy("default", "me")
    new, sealed = keyring.seal("default", "me", b"after", context=b"")
    assert new != old
    assert keyring.unseal(new, sealed, context=b"") == b"after"


def test_an_unknown_key_id_is_told_from_a_destroyed_key(keyring: Keyring) -> None:
    with pytest.raises(KeyUnknown):
        keyring.unseal("f" * 32, b"x" * 40, context=b"")


def test_keys_that_were_made_after_a_moment_survive_an_erasure_up_to_it(keyring: Keyring) -> None:
    old, _ = keyring.seal("default", "me", b"before", context=b"")
    up_to = now()
    assert keyring.destroy("default", "me", up_to) == [old]
    new, sealed = keyring.seal("default", "me", b"after", context=b"")
    assert keyring.destroy("default", "me", up_to) == [old]
    assert keyring.unseal(new, sealed, context=b"") == b"after"


def test_keys_of_an_earlier_erasure_are_not_counted_again(keyring: Keyring) -> None:
    keyring.seal("default", "me", b"x", context=b"")
    keyring.destroy("default", "me", now())
    second, _ = keyring.seal("default", "me", b"y", context=b"")
    assert keyring.destroy("default", "me", now()) == [second]


def test_another_process_that_used_the_key_forgets_it_once_it_is_destroyed(
    keyring: Keyring, opened: Callable[[], Keyring]
) -> None:
    other = opened()
    key_id, sealed = other.seal("default", "me", b"mine", context=b"event")
    assert other.unseal(key_id, sealed, context=b"event") == b"mine"
    keyring.destroy("default", "me")
    seconds_until(KeyDestroyed, lambda: other.unseal(key_id, sealed, context=b"event"))
    assert not other.knows("default", "me")
    assert other.seal("default", "me", b"new", context=b"event")[0] != key_id


def test_the_process_that_destroys_a_key_forgets_it_at_once(keyring: Keyring) -> None:
    for _ in range(20):
        key_id, sealed = keyring.seal("default", "me", b"mine", context=b"event")
        keyring.destroy("default", "me")
        assert not keyring.knows("default", "me")
        with pytest.raises(KeyDestroyed):
            keyring.unseal(key_id, sealed, context=b"event")


def test_a_key_that_was_being_fetched_while_it_was_destroyed_is_not_kept(
    stores: Callable[[], KeyStore], keyring: Keyring
) -> None:
    key_id, sealed = keyring.seal("default", "me", b"mine", context=b"event")
    store, fetched, destroyed = stores(), threading.Event(), threading.Event()
    load = store.load

    def slowly(key_id: str) -> bytes | None:
        key = load(key_id)
        fetched.set()
        assert destroyed.wait(PATIENCE_S)
        return key

    store.load = slowly  # type: ignore[method-assign]
    other = Keyring(store)
    reading = threading.Thread(target=lambda: other.unseal(key_id, sealed, context=b"event"))
    reading.start()
    assert fetched.wait(PATIENCE_S)
    other.destroy("default", "me")
    destroyed.set()
    reading.join()
    with pytest.raises(KeyDestroyed):
        other.unseal(key_id, sealed, context=b"event")


def test_only_an_owner_whose_key_is_at_hand_is_known(keyring: Keyring) -> None:
    assert not keyring.knows("default", "me")
    keyring.seal("default", "me", b"x", context=b"")
    assert keyring.knows("default", "me")
    assert not keyring.knows("default", None)


def test_processes_that_meet_people_at_the_same_time_agree_on_one_key_each(place: str) -> None:
    """Also on the tables, which none of them found."""
    owners = [uuid4().hex for _ in range(25)]
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        found = pool.starmap(ids_of_many, [(place, owners)] * PROCESSES, chunksize=1)
        pool.close()
        pool.join()
    assert len(set(found[0])) == len(owners)
    assert all(ids == found[0] for ids in found)


def test_a_keyring_says_where_it_is(keyring: Keyring, place: str) -> None:
    assert place.rpartition("/")[2] in keyring.describe()
