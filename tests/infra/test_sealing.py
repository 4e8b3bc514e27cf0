import stat
from pathlib import Path

import pytest

from infra.clock import now
from infra.sealing import KeyDestroyed, Keyring, KeyUnknown, SealBroken


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keyring.db")


def test_what_was_sealed_opens_with_its_key_and_context(keyring: Keyring) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    assert b"hello" not in sealed
    assert keyring.unseal(key_id, sealed, context=b"event") == b"hello"


def test_another_process_opens_it_too(keyring: Keyring, tmp_path: Path) -> None:
    key_id, sealed = keyring.seal("default", "rater", b"hello", context=b"event")
    assert Keyring(tmp_path / "keyring.db").unseal(key_id, sealed, context=b"event") == b"hello"


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


def test_another_process_that_used_the_key_forgets_it_once_it_is_destroyed(keyring: Keyring, tmp_path: Path) -> None:
    other = Keyring(tmp_path / "keyring.db")
    key_id, sealed = other.seal("default", "me", b"mine", context=b"event")
    assert other.unseal(key_id, sealed, context=b"event") == b"mine"
    keyring.destroy("default", "me")
    with pytest.raises(KeyDestroyed):
        other.unseal(key_id, sealed, context=b"event")
    assert other.seal("default", "me", b"new", context=b"event")[0] != key_id


def test_destroyed_key_bytes_are_not_left_in_the_file(keyring: Keyring, tmp_path: Path) -> None:
    keyring.seal("default", "me", b"x", context=b"")
    (_, key) = keyring._current("default", "me")
    files = [path for path in tmp_path.iterdir() if path.name.startswith("keyring.db")]
    assert any(key in path.read_bytes() for path in files)
    keyring.destroy("default", "me")
    assert not any(key in path.read_bytes() for path in tmp_path.iterdir())


def test_the_keyring_is_readable_by_its_owner_only(keyring: Keyring, tmp_path: Path) -> None:
    assert stat.S_IMODE((tmp_path / "keyring.db").stat().st_mode) == 0o600


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
