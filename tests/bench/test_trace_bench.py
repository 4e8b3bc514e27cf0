"""The trace benchmark asks of what it built, and says how long each way took."""

import json
from pathlib import Path

from tests.bench import trace


def test_each_way_of_asking_is_measured_on_a_small_store(tmp_path: Path) -> None:
    out = tmp_path / "trace.json"
    trace.main(["--events", "400", "--asks", "2", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["events"] == 400
    assert len(found["datasets"]) == len(found["first_s"]) == 3
    assert all(dataset["rows"] for dataset in found["datasets"])
    for kind in ("response", "vote", "answer_event"):
        assert found[kind].keys() == {"in_process", "command", "api"}
        assert all(way["asks"] == 2 and way["p95_ms"] >= way["p50_ms"] > 0 for way in found[kind].values())
