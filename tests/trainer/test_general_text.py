"""A general text: read, cut into pieces, and how likely it is to two adapters of a real, tiny base."""

from pathlib import Path

import pytest

from infra.settings import SettingsError, TrainerSettings
from tests.support.tiny_model import make_tiny_model
from trainer.data import Demonstration, Prompt
from trainer.general_text import CHUNK, MOST_CHUNKS, chunks, compare, read_text
from trainer.methods import sft
from trainer.model import Base, attach_fresh, load_base

TEXT = "Return the cosine of x, when called with a list of values. " * 200


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(make_tiny_model(tmp_path_factory.mktemp("model")))


def test_no_file_is_no_text() -> None:
    assert read_text("") == ""


def test_a_text_that_can_t_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer\.general_text_file: .*gone\.txt can't be read"):
        read_text(str(tmp_path / "gone.txt"))
    (tmp_path / "picture").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(SettingsError, match="picture can't be read"):
        read_text(str(tmp_path / "picture"))


def test_pieces_are_whole_and_spread_over_the_text(base: Base) -> None:
    few, many = chunks(base.tokenizer, TEXT[:4000]), chunks(base.tokenizer, TEXT * 20)
    assert {len(piece) for piece in [*few, *many]} == {CHUNK}
    assert len(many) == MOST_CHUNKS
    assert chunks(base.tokenizer, "short") == []


def test_an_adapter_that_changes_nothing_moves_nothing(base: Base) -> None:
    attach_fresh(base, "fresh", TrainerSettings(lora_rank=4), 0)
    found = compare(base, chunks(base.tokenizer, TEXT)[:4], "fresh", None)
    assert found.rise is not None
    assert found.rise.value == pytest.approx(0, abs=1e-6)
    assert found.candidate == pytest.approx(found.champion)


def test_a_candidate_that_lost_what_its_champion_knows_raises_the_nats_per_token(base: Base) -> None:
    """The champion has seen the text; the candidate is the base, which has not."""
    settings = TrainerSettings(lora_rank=4, sft_learning_rate=1e-2)
    attach_fresh(base, "taught", settings, 1)
    asked = Prompt([{"role": "user", "content": "What does cos do?"}])
    rows = [Demonstration(asked, {"role": "assistant", "content": TEXT[:120]})] * 64
    sft.train(base, rows, adapter="taught", settings=settings, seed=0)
    pieces = chunks(base.tokenizer, TEXT)[:6]
    forgetting, learning = compare(base, pieces, None, "taught"), compare(base, pieces, "taught", None)
    assert forgetting.rise is not None and learning.rise is not None
    assert forgetting.rise.lo > 0 > learning.rise.hi
    assert forgetting.rise.value == pytest.approx(forgetting.candidate - forgetting.champion)
