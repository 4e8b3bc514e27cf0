import multiprocessing
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.spool import CURSOR, FRAME, Batch, Entry, Spool, SpoolFull, SpoolTaken, decode, encode


def make_entry(number: int = 0, size: int = 20) -> Entry:
    return Entry("topic", f"key-{number}", f"{number}:".encode().ljust(size, b"."))


def make_spool(
    directory: Path, *, max_bytes: int = 1 << 20, segment_bytes: int = 1 << 16, create: bool = True
) -> Spool:
    return Spool(directory, max_bytes=max_bytes, segment_bytes=segment_bytes, create=create)


def abandon(spool: Spool) -> None:
    """What a kill leaves: open files are closed by the kernel, nothing else is done."""
    for file in (spool._file, spool._cursor_file, spool._owner):
        os.close(file)


def drain(spool: Spool) -> list[Entry]:
    entries: list[Entry] = []
    while (batch := spool.read()).entries:
        entries += batch.entries
        spool.acknowledge(batch.ends[-1])
    return entries


def test_what_was_appended_is_read_in_order(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    entries = [make_entry(number) for number in range(50)]
    for entry in entries:
        spool.append(entry)
    assert drain(spool) == entries
    spool.close()


def test_what_is_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    for number in range(3):
        spool.append(make_entry(number))
    first = spool.read()
    spool.acknowledge(first.ends[0])
    assert spool.read().entries == [make_entry(1), make_entry(2)]
    abandon(spool)


def test_a_dead_owners_spool_is_read_on_from_its_cursor(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    for number in range(5):
        spool.append(make_entry(number))
    spool.acknowledge(spool.read().ends[1])
    abandon(spool)
    adopted = make_spool(tmp_path / "s", create=False)
    assert drain(adopted) == [make_entry(2), make_entry(3), make_entry(4)]
    adopted.close()


def test_a_torn_tail_costs_only_itself(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    spool.append(make_entry(1))
    os.write(spool._file, encode(make_entry(2))[:-3])
    abandon(spool)
    adopted = make_spool(tmp_path / "s")
    adopted.append(make_entry(3))
    assert drain(adopted) == [make_entry(1), make_entry(3)]
    assert adopted.unshipped_bytes == 0
    adopted.close()


def test_a_record_whose_bytes_changed_is_left_out(tmp_path: Path) -> None:
    frames = [encode(make_entry(number)) for number in range(3)]
    frames[1] = frames[1][:-1] + b"!"
    assert [entry for entry, _ in decode(b"".join(frames))] == [make_entry(0), make_entry(2)]


def test_a_torn_cursor_means_reading_from_the_start(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    spool.append(make_entry(1))
    spool.acknowledge(spool.read().ends[0])
    os.ftruncate(spool._cursor_file, CURSOR.size - 1)
    abandon(spool)
    adopted = make_spool(tmp_path / "s")
    assert drain(adopted) == [make_entry(1)]
    adopted.close()


def test_acknowledged_segments_are_removed(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s", segment_bytes=200)
    for number in range(40):
        spool.append(make_entry(number))
    assert len(list((tmp_path / "s").glob("*.segment"))) > 5
    assert drain(spool) == [make_entry(number) for number in range(40)]
    assert len(list((tmp_path / "s").glob("*.segment"))) == 1
    assert spool.unshipped_bytes == 0
    spool.close()


def test_a_full_spool_refuses_and_takes_again_once_shipped(tmp_path: Path) -> None:
    room = 3 * len(encode(make_entry()))
    spool = make_spool(tmp_path / "s", max_bytes=room)
    for number in range(3):
        spool.append(make_entry(number))
    with pytest.raises(SpoolFull, match="wait for the log"):
        spool.append(make_entry(3))
    assert drain(spool) == [make_entry(number) for number in range(3)]
    spool.append(make_entry(4))
    assert drain(spool) == [make_entry(4)]
    spool.close()


def test_a_full_disk_is_a_full_spool_and_leaves_no_half_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(tmp_path / "s")
    spool.append(make_entry(1))
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with pytest.raises(SpoolFull):
        spool.append(make_entry(2))
    monkeypatch.undo()
    spool.append(make_entry(3))
    assert drain(spool) == [make_entry(1), make_entry(3)]
    spool.close()


def test_a_live_owners_spool_cannot_be_taken(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s")
    with pytest.raises(SpoolTaken):
        make_spool(tmp_path / "s")
    spool.close()


def test_there_is_nothing_to_adopt_where_no_spool_is(tmp_path: Path) -> None:
    with pytest.raises(SpoolTaken):
        make_spool(tmp_path / "missing", create=False)


def test_an_empty_spool_is_removed_when_it_is_closed_and_a_waiting_one_stays(tmp_path: Path) -> None:
    empty, waiting = make_spool(tmp_path / "empty"), make_spool(tmp_path / "waiting")
    waiting.append(make_entry(1))
    empty.close()
    waiting.close()
    assert not (tmp_path / "empty").exists()
    again = make_spool(tmp_path / "waiting")
    assert drain(again) == [make_entry(1)]
    again.close()


def test_those_who_sync_together_share_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(tmp_path / "s")
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file)))
    tickets = [spool.append(make_entry(number)) for number in range(10)]
    for ticket in reversed(tickets):
        spool.sync(ticket)
    assert len(synced) == 1
    spool.append(make_entry(11))
    spool.sync()
    assert len(synced) == 2
    drain(spool)
    spool.close()


def test_a_failing_disk_is_said_to_whoever_waits_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(tmp_path / "s")
    ticket = spool.append(make_entry(1))

    def broken(_file: int) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(SpoolFull, match="input/output error"):
        spool.sync(ticket)
    monkeypatch.undo()
    drain(spool)
    spool.close()


def test_sync_reaches_segments_that_were_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = make_spool(tmp_path / "s", segment_bytes=100)
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (synced.append(file), real(file)))
    for number in range(6):
        spool.append(make_entry(number))
    spool.sync()
    assert len(synced) == len(list((tmp_path / "s").glob("*.segment")))
    drain(spool)
    spool.close()


def test_what_is_appended_right_after_a_look_is_no_torn_tail_though_its_segment_is_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = make_spool(tmp_path / "s", segment_bytes=100)
    look, late = spool._read_segment, [make_entry(number, size=60) for number in range(4)]

    def look_and_be_overtaken() -> Batch:
        batch = look()
        while late:
            spool.append(late.pop(0))
        return batch

    monkeypatch.setattr(spool, "_read_segment", look_and_be_overtaken)
    assert spool.read().entries == []
    assert drain(spool) == [make_entry(number, size=60) for number in range(4)]
    spool.close()


def test_many_threads_append_and_nothing_is_lost_or_torn(tmp_path: Path) -> None:
    spool = make_spool(tmp_path / "s", segment_bytes=5_000)
    threads = [
        threading.Thread(target=lambda base=base: [spool.append(make_entry(base + n)) for n in range(100)])
        for base in range(0, 800, 100)
    ]
    for thread in threads:
        thread.start()
    found: list[Entry] = []
    while any(thread.is_alive() for thread in threads):
        found += drain(spool)
    found += drain(spool)
    assert sorted(entry.key for entry in found) == sorted(make_entry(number).key for number in range(800))
    spool.close()


def test_a_killed_process_loses_nothing_it_had_appended(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    there, here = context.Pipe()
    writer = context.Process(target=_append_until_killed, args=(tmp_path / "s", there))
    writer.start()
    appended = [here.recv() for _ in range(200)]
    writer.kill()
    writer.join()
    spool = make_spool(tmp_path / "s")
    found = {entry.key for entry in drain(spool)}
    assert {make_entry(number).key for number in appended} <= found
    spool.close()


def _append_until_killed(directory: Path, parent: "multiprocessing.connection.Connection") -> None:
    spool = make_spool(directory, max_bytes=1 << 30)
    number = 0
    while True:
        spool.append(make_entry(number))
        parent.send(number)
        number += 1


def test_a_record_longer_than_any_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long"):
        encode(Entry("topic", "key", bytes(5 << 20)))


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200), st.integers(min_value=0))
def test_any_prefix_of_a_segment_gives_only_whole_records(topic: str, key: str, value: bytes, cut: int) -> None:
    entries = [Entry(topic, key, value), Entry("t", "k", b"next")]
    data = b"".join(map(encode, entries))
    found = [entry for entry, _ in decode(data[: cut % (len(data) + 1)])]
    assert found == entries[: len(found)]
    assert FRAME.size > 0
