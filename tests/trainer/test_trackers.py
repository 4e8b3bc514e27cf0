"""What TensorBoard and MLflow themselves read back; each is an extra, so these run where it is installed."""

from pathlib import Path
from typing import Any

import pytest

from trainer.sinks import open_sinks


def test_tensorboard_reads_each_step_once_after_a_resume(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for steps in ((1, 2, 3), (2, 3, 4)):
        with open_sinks(tmp_path / "m.jsonl", ["tensorboard"], tmp_path, "dpo") as sinks:
            for step in steps:
                sinks.write(step, {"rewards/margins": float(step)})
    found = events.EventAccumulator(str(tmp_path / "tensorboard" / "dpo")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("rewards/margins")] == [
        (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0),
    ]  # fmt: skip


def test_a_part_is_a_run_of_tensorboard_s_beside_the_whole(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with open_sinks(tmp_path / "m.jsonl", ["tensorboard"], tmp_path, "reward") as sinks:
        sinks.part("judge").write(1, {"loss": 0.5})
    found = events.EventAccumulator(str(tmp_path / "tensorboard" / "reward" / "judge")).Reload()
    assert [event.value for event in found.Scalars("loss")] == [0.5]


@pytest.mark.filterwarnings("default")  # MLflow's own use of SQLAlchemy
@pytest.mark.parametrize("fails", [False, True])
def test_mlflow_keeps_every_figure_and_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'elsewhere.db'}")
    opened = open_sinks(tmp_path / "m.jsonl", ["mlflow"], tmp_path, "grpo")
    sinks = opened.__enter__()
    sinks.write(3, {"objective/kl": 0.25})
    sinks.part("judge").write(1, {"loss": 0.5})
    opened.__exit__(*((RuntimeError, RuntimeError(), None) if fails else (None, None, None)))
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("thumbwheel").experiment_id])
    assert run.info.status == ("FAILED" if fails else "FINISHED")
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "objective/kl")] == [(3, 0.25)]
    assert [m.value for m in client.get_metric_history(run.info.run_id, "judge/loss")] == [0.5]
