"""One dataset of the snapshot benchmark, built in a process of its own, so that its peak memory can be told."""

import json
import os
import resource
import sys
import threading
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from feedback.datasets.snapshot import Order, Snapshots, dataset_path
from infra.artifacts import ArtifactStore
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC
from infra.database.engine import open_database
from infra.settings import FeedbackSettings
from tests.support.events import TENANT, make_sealer

LOOK_S = 0.2
PAGE = os.sysconf("SC_PAGE_SIZE")


class Watch:
    """The most that this process and its children held together, and how long each stage took."""

    def __init__(self) -> None:
        self.peak, self.stages = 0, Counter[str]()
        self._stage, self._since, self._done = "events", time.monotonic(), threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def __call__(self, what: str, _done: int, _total: int) -> None:
        """A stage ends when the next one is heard of; what comes after the last is weighing and publishing."""
        at = time.monotonic()
        self.stages[what] += at - self._since
        self._since = at

    def end(self) -> dict[str, float]:
        self("weights and publishing", 0, 0)
        self._done.set()
        return {what: round(seconds, 1) for what, seconds in self.stages.items()}

    def _run(self) -> None:
        while not self._done.wait(LOOK_S):
            self.peak = max(self.peak, resident(os.getpid()) + sum(map(resident, children())))


def children() -> list[int]:
    """Of all threads of this process."""
    lists = Path("/proc/self/task").glob("*/children")
    return [int(pid) for one in lists for pid in one.read_text().split()]


def resident(pid: int) -> int:
    """Bytes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def cpu_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def main(home: Path, as_of: datetime, offset: int) -> None:
    database, artifacts = open_database(os.environ["BENCH_DATABASE"]), ArtifactStore(str(home / "artifacts"))
    settings = FeedbackSettings(snapshot_processes=int(os.environ.get("BENCH_PROCESSES", "0")))
    snapshots = Snapshots(database, make_sealer(home), artifacts, home / "snapshots", settings)
    cut = {(topic, 0): offset for topic in (INFERENCE_TOPIC, FEEDBACK_TOPIC)}
    began, cpu, watch = time.monotonic(), cpu_s(), Watch()
    manifest = snapshots.build(Order(TENANT, "assistant", as_of, cut), progress=watch)
    stages, seconds, cpu = watch.end(), time.monotonic() - began, cpu_s() - cpu
    mine = artifacts.hashes(dataset_path(TENANT, manifest.dataset_id))
    before = artifacts.hashes(dataset_path(TENANT, manifest.parent)) if manifest.parent else {}
    told = {
        "seconds": round(seconds, 1), "cpu_s": round(cpu, 1), "stages_s": stages, "sha256": manifest.sha256,
        "peak_mib": round(watch.peak / 2**20),
        "rows": sum(sum(splits.values()) for splits in manifest.counts.values()),
        "files": len(mine), "new_files": sum(before.get(name) != sha for name, sha in mine.items()),
        "weights": manifest.weights, "filtered": manifest.filtered,
    }  # fmt: skip
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), datetime.fromisoformat(sys.argv[2]), int(sys.argv[3]))
