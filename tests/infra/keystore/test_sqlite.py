import stat
from pathlib import Path

import pytest

from infra.clock import now
from infra.keystore.base import KeyringAway
from infra.keystore.sqlite import SqliteKeyStore


def test_destroyed_key_bytes_are_not_left_in_the_file(tmp_path: Path) -> None:
    store = SqliteKeyStore(tmp_path / "keyring.db")
    _, key = store.current("default", "me")
    files = [path for path in tmp_path.iterdir() if path.name.startswith("keyring.db")]
    assert any(key in path.read_bytes() for path in files)
    store.destroy("default", "me", now())
    assert not any(key in path.read_bytes() for path in tmp_path.iterdir())


def test_the_keyring_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    SqliteKeyStore(tmp_path / "keyring.db")
    assert stat.S_IMODE((tmp_path / "keyring.db").stat().st_mode) == 0o600


def test_a_file_that_is_no_keyring_is_named(tmp_path: Path) -> None:
    (tmp_path / "keyring.db").write_text("anything else " * 100)
    with pytest.raises(KeyringAway, match=r"keyring\.db cannot be used"):
        SqliteKeyStore(tmp_path / "keyring.db")
