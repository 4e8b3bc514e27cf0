"""Files whose bytes depend on the rows alone."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from feedback.cells import Cell
from feedback.datasets.draft import Draft
from feedback.datasets.pairs import make_prompts, make_rows
from feedback.datasets.rows import Row, Table
from feedback.datasets.shards import dataset_sha256, read_ids, write_rows
from infra.artifacts import ArtifactStore
from infra.contracts.manifests import FileEntry
from tests.support.events import make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import make_exchanges, make_judgement

DAY = 86400.0


def some_rows(count: int = 12) -> list[Row]:
    """Over three days, of five raters, one in four with a strength."""
    judgements = [
        make_judgement(
            make_comparison(strength=1.0 if at % 4 == 0 else None), name=f"vote {at}", rater=f"rater-{at % 5}",
            texts=(f"Good {at}.", f"Bad {at}."), occurred_at=moment(DAY * (at % 3)),
        )
        for at in range(count)
    ]  # fmt: skip
    return make_rows(judgements)


def write(rows: list[Row], directory: Path, split: str = "train") -> list[FileEntry]:
    """Cell by cell, as a dataset is made."""
    draft = Draft(directory, ArtifactStore(str(directory / "artifacts")))
    cells: dict[Cell, list[Row]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    return [file for cell, some in sorted(cells.items()) for file in write_rows(draft, some, split, cell)]


def test_the_same_rows_in_any_order_are_the_same_bytes(tmp_path: Path) -> None:
    rows = some_rows()
    one = write(rows, tmp_path / "one")
    other = write(random.Random(3).sample(rows, len(rows)), tmp_path / "other")
    assert one == other
    assert len(one) > 3


def test_one_more_row_changes_one_shard(tmp_path: Path) -> None:
    rows = some_rows()
    before = {file.path: file.sha256 for file in write(rows[:-1], tmp_path / "before")}
    after = {file.path: file.sha256 for file in write(rows, tmp_path / "after")}
    assert len(set(after.items()) - set(before.items())) == 1


def test_a_persons_rows_of_one_day_are_in_one_cell() -> None:
    cells = {row.cell for row in some_rows(15) if row.values["rater"] == "rater-0"}
    assert len(cells) == 3  # three days
    assert len({cell.bucket for cell in cells}) == 1


def test_rows_with_a_margin_have_files_of_their_own(tmp_path: Path) -> None:
    for file in write(some_rows(), tmp_path):
        columns = pq.read_schema(tmp_path / file.path).names
        assert ("margin" in columns) == file.path.endswith("-margin.parquet")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    row = make_rows([make_judgement()])[0]
    (file,) = write([row], tmp_path)
    (found,) = pq.read_table(tmp_path / file.path).to_pylist()
    assert found["chosen"][0]["content"] == "Good answer."
    assert found["chosen"][0]["tool_calls"] is None
    assert found["occurred_at"] == row.values["occurred_at"]
    assert found["versions"] == {"chosen": "base", "rejected": "base"}
    assert file.rows == 1
    assert file.bytes == (tmp_path / file.path).stat().st_size


def test_the_dataset_hash_depends_on_content_and_place_but_not_on_order() -> None:
    one = FileEntry(path="preference/train/a.parquet", sha256="aa", bytes=1)
    other = FileEntry(path="preference/train/b.parquet", sha256="bb", bytes=1)
    moved = one.model_copy(update={"path": "preference/test/a.parquet"})
    assert dataset_sha256([one, other]) == dataset_sha256([other, one])
    assert dataset_sha256([one, other]) != dataset_sha256([moved, other])


@pytest.mark.parametrize("table", [Table.PREFERENCE, Table.PROMPTS])
def test_row_ids_can_be_read_without_the_rest(tmp_path: Path, table: Table) -> None:
    rows = [*some_rows(), *make_prompts(make_exchanges(make_inference()))]
    write(rows, tmp_path)
    wanted = {row.values["prompt_id"] if table is Table.PROMPTS else row.row_id for row in rows if row.table is table}
    assert read_ids(tmp_path, table) == wanted


def test_a_table_without_rows_has_no_files_and_no_ids(tmp_path: Path) -> None:
    write(make_rows([make_judgement(make_feedback("r1"))]), tmp_path)
    assert not (tmp_path / "preference").exists()
    assert read_ids(tmp_path, Table.PREFERENCE) == set()
