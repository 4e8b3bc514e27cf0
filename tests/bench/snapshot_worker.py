"""One dataset of the snapshot benchmark, built in a process of its own, so that its peak memory can be told."""

import json
import os
import resource
import sys
import time
from datetime import datetime
from pathlib import Path

from feedback.snapshot import Order, Snapshots, dataset_path
from infra.artifacts import ArtifactStore
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC
from infra.database.engine import open_database
from infra.settings import FeedbackSettings
from tests.support.events import TENANT, make_sealer


def main(home: Path, as_of: datetime, offset: int) -> None:
    database, artifacts = open_database(os.environ["BENCH_DATABASE"]), ArtifactStore(str(home / "artifacts"))
    snapshots = Snapshots(database, make_sealer(home), artifacts, home / "snapshots", FeedbackSettings())
    cut = {(topic, 0): offset for topic in (INFERENCE_TOPIC, FEEDBACK_TOPIC)}
    began, cpu = time.monotonic(), time.process_time()
    manifest = snapshots.build(Order(TENANT, "assistant", as_of, cut))
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    mine = artifacts.hashes(dataset_path(TENANT, manifest.dataset_id))
    before = artifacts.hashes(dataset_path(TENANT, manifest.parent)) if manifest.parent else {}
    told = {
        "seconds": round(seconds, 1), "cpu_s": round(cpu, 1), "sha256": manifest.sha256,
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "rows": sum(sum(splits.values()) for splits in manifest.counts.values()),
        "files": len(mine), "new_files": sum(before.get(name) != sha for name, sha in mine.items()),
        "weights": manifest.weights, "filtered": manifest.filtered,
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), int(sys.argv[3]))
