"""A shadow's answers on their whole way: from the log to a real reward model in the real worker, and into a finding."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from feedback.main import make_shadow_judge
from infra.ports import Ports
from infra.registry import adapters, judges, rollouts, tallies
from serving.monitors.look import look
from tests.support.events import TENANT, moment
from tests.support.feedback import Room
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from tests.support.mirroring import JUDGE, both, outcomes, verdicts
from tests.support.raters import LIMITS
from tests.support.reward_models import register_reward_model
from tests.support.tiny_training import tiny_environment
from tests.support.trials import ROLLOUT, STEPS, VERSIONS, happen, make_tallier, put_rollout
from trainer.model import load_base

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]  # the worker and its child load torch

ASKED = {"role": "user", "content": "What does math.cos do?"}  # as `both` asks
TEXTS = [("Short.", "Rather longer than the other."), ("returns the cosine of x", "a list"), ("Same.", "Same.")]


@contextmanager
def worker(ports: Ports, environment: dict[str, str]) -> Iterator[None]:
    environ = {**os.environ, **environment, "THUMBWHEEL_HOME": str(ports.home)}
    with (ports.home / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "trainer.worker"], env=environ, stderr=log, stdout=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def test_mirrored_answers_are_scored_by_the_judge_and_told_by_the_monitor(tmp_path: Path) -> None:
    environment = tiny_environment(tmp_path)
    ports = make_ports(tmp_path / "home", **environment)
    base = load_base(Path(ports.settings.serving.model))
    settings = {"judge_share": 0.3}
    model = register_reward_model(ports, base, tmp_path / "judge", JUDGE, settings=settings)
    room = Room(ports.home, ports.database, ports.sealer, ports.eventlog)
    put_rollout(room, requested_at=moment(10**9))
    with ports.database.transaction() as session:
        for version in VERSIONS.values():
            manifest = make_adapter_manifest(version=version, settings=settings, base_revision=base.revision)
            adapters.register(session, manifest, f"adapters/{version}")
    happen(room, *(event for at, texts in enumerate(TEXTS) for event in both(f"r{at}", *texts, rater=f"rater-{at}")))
    with worker(ports, environment):
        judge = make_shadow_judge(ports, ports.settings, room.metrics, threading.Event(), wait_s=300)
        assert judge.turn() == 3
    theirs, ours = (model.score([([ASKED], pair[side]) for pair in TEXTS]) for side in (0, 1))
    expected = [*(0.5 + 0.5 * np.sign(ours - theirs)[:2]), 0.5]
    assert verdicts(room) == {f"r{at}": win for at, win in enumerate(expected)}
    assert outcomes(room) == {"scored": 1.0}
    assert ports.artifacts.names("lent") == []
    make_tallier(room).turn()
    with ports.database.reading() as session:
        found = tallies.of_rollout(session, TENANT, ROLLOUT)
        name = judges.judge_of(session, rollouts.get(session, ROLLOUT))
    (finding,) = [one for one in look(STEPS, 0, found, LIMITS, moment(), name).findings if one.name == "shadow_judge"]
    assert f"3 of 3 mirrored answers judged by {JUDGE}" in finding.reason
    assert finding.interval is not None
    assert finding.interval.value == pytest.approx(sum(expected) / 3)
    ports.close()
