"""The trace benchmark asks of what it built, and says how long that took."""

import json
from pathlib import Path

from tests.bench import trace


def test_each_kind_of_question_is_measured_on_a_small_store(tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    trace.main(["--events", "400", "--asks", "3", "--ways", "in_process", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["events"] == 400
    assert len(found["datasets"]) == len(found["first_s"]) == 3
    assert all(dataset["rows"] for dataset in found["datasets"])
    for kind in ("response", "vote", "answer_event"):
        (way,) = found[kind].values()
        assert way["asks"] == 3
        assert way["p95_ms"] >= way["p50_ms"] > 0
