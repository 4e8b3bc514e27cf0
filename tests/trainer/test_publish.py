"""Names that are never used twice, closures over datasets, and contracts on disk."""

import re
from pathlib import Path

from infra.contracts.manifests import Interval
from trainer.publish import adapter_path, closure, code_version, reward_name, reward_path, version_name, write_contract


def test_a_version_is_named_for_alias_cycle_and_weights() -> None:
    assert version_name("assistant", "12", "deadbeefcafe") == "assistant-12-deadbeef"
    assert reward_name("assistant", "12", "judge", "deadbeefcafe") == "assistant-12-judge-deadbeef"


def test_the_closure_holds_every_dataset_once() -> None:
    assert closure("b", ["a", "b"], []) == ["a", "b"]


def test_the_code_version_is_a_release_and_a_hash_of_the_source() -> None:
    assert re.fullmatch(r"[\d.]+\+[0-9a-f]{12}", code_version())
    assert code_version() == code_version()


def test_other_weights_have_another_name() -> None:
    assert version_name("assistant", "12", "0" * 64) != version_name("assistant", "12", "1" * 64)


def test_adapters_and_reward_models_lie_apart() -> None:
    assert adapter_path("v1") == "adapters/v1"
    assert reward_path("v1") == "rewards/v1"


def test_a_contract_on_disk_reads_back_and_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    interval = Interval(value=0.5, lo=0.4, hi=0.6, n=12)
    for name in ("a", "b"):
        write_contract(tmp_path / name, interval)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert Interval.model_validate_json((tmp_path / "a").read_bytes()) == interval
