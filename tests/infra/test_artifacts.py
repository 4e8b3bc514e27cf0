from pathlib import Path

import pytest

from infra.artifacts import MARKER, ArtifactStore, MissingArtifact, Shared, Tampered, dump_json


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "local"
    (made / "sub").mkdir(parents=True)
    (made / "a.txt").write_text("alpha")
    (made / "sub" / "b.txt").write_text("beta")
    return made


def test_a_published_directory_comes_back_whole(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    hashes = store.publish("adapters/v1", folder)
    fetched = store.fetch("adapters/v1", tmp_path / "copy")
    assert set(hashes) == {"a.txt", "sub/b.txt"}
    assert (fetched / "sub" / "b.txt").read_text() == "beta"


def test_a_directory_without_its_marker_is_not_there(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    store.publish("adapters/v1", folder)
    (tmp_path / "store" / "adapters" / "v1" / MARKER).unlink()
    assert not store.is_ready("adapters/v1")
    with pytest.raises(MissingArtifact):
        store.fetch("adapters/v1", tmp_path / "copy")


def test_a_changed_file_is_refused_and_leaves_nothing_behind(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    store.publish("adapters/v1", folder)
    (tmp_path / "store" / "adapters" / "v1" / "a.txt").write_text("omega")
    with pytest.raises(Tampered, match="a.txt"):
        store.fetch("adapters/v1", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_changed_file_further_down_leaves_nothing_behind_either(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    store.publish("adapters/v1", folder)
    (tmp_path / "store" / "adapters" / "v1" / "sub" / "b.txt").write_text("omega")
    with pytest.raises(Tampered, match="b.txt"):
        store.fetch("adapters/v1", tmp_path / "copies" / "copy")
    assert list((tmp_path / "copies").iterdir()) == []


def test_a_written_file_is_on_the_disk_before_it_has_its_name(
    store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr("os.fsync", lambda _descriptor: synced.append((tmp_path / "store" / "body").exists()))
    store.write("body", b"what a person wrote")
    assert synced == [False]


def test_publishing_again_changes_nothing(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    first = store.publish("adapters/v1", folder)
    (folder / "a.txt").write_text("other")
    assert store.publish("adapters/v1", folder) == first
    assert (store.fetch("adapters/v1", tmp_path / "copy") / "a.txt").read_text() == "alpha"


def test_fetching_over_an_old_copy_replaces_it(store: ArtifactStore, folder: Path, tmp_path: Path) -> None:
    store.publish("adapters/v1", folder)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "stale.txt").write_text("old")
    assert {path.name for path in store.fetch("adapters/v1", tmp_path / "copy").iterdir()} == {"a.txt", "sub"}


def test_a_missing_file_says_so(store: ArtifactStore) -> None:
    with pytest.raises(MissingArtifact, match="nowhere"):
        store.read("nowhere.json")


def test_deleting_removes_a_directory_and_forgives_one_that_is_gone(store: ArtifactStore, folder: Path) -> None:
    store.publish("adapters/v1", folder)
    store.delete(["adapters/v1", "adapters/v2"])
    assert not store.exists("adapters/v1")


def test_a_store_may_live_on_any_fsspec_url(folder: Path, tmp_path: Path) -> None:
    memory = ArtifactStore("memory://thumbwheel-tests")
    memory.publish("adapters/v1", folder)
    assert (memory.fetch("adapters/v1", tmp_path / "copy") / "a.txt").read_text() == "alpha"


def test_equal_content_is_dumped_to_equal_bytes() -> None:
    assert dump_json({"b": 1, "a": {"d": 2, "c": 3}}) == dump_json({"a": {"c": 3, "d": 2}, "b": 1})


def test_a_redacted_file_takes_the_place_of_the_published_one_and_fits_its_marker(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    store.publish("adapters/v1", folder)
    store.publish("adapters/v2", folder, Shared("adapters/v1", frozenset({"a.txt"})))
    store.redact("adapters/v1", "a.txt", b"less")
    assert (store.fetch("adapters/v1", tmp_path / "copy") / "a.txt").read_text() == "less"
    assert store.read("adapters/v2/a.txt") == b"alpha"


def test_a_redaction_that_was_killed_in_the_middle_is_mended_by_doing_it_again(
    store: ArtifactStore, folder: Path, tmp_path: Path
) -> None:
    store.publish("adapters/v1", folder)
    store.write("adapters/v1/a.txt", b"less")
    with pytest.raises(Tampered):
        store.fetch("adapters/v1", tmp_path / "copy")
    store.redact("adapters/v1", "a.txt", b"less")
    store.fetch("adapters/v1", tmp_path / "copy")


def test_what_lies_in_a_directory_is_listed_complete_or_not(store: ArtifactStore, folder: Path) -> None:
    store.publish("adapters/v1", folder)
    store.write("adapters/v2/half.txt", b"")
    assert store.names("adapters") == ["v1", "v2"]
    assert store.files("adapters/v1") == [MARKER, "a.txt", "sub/b.txt"]
    assert store.names("nowhere") == store.files("nowhere") == []
