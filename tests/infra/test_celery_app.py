"""Which queue a task goes to is the settings' to say, whoever sends it."""

from pathlib import Path

import pytest

from infra.celery_app import make_celery
from infra.contracts.tasks import CPU_QUEUE, GPU_QUEUE, RUN_CYCLE, SCORE, SWEEP
from infra.settings import SettingsError, load_settings


def queue_of(home: Path, task: str, **environ: str) -> str:
    app = make_celery(load_settings(home, environ))
    routed = app.amqp.router.route({}, task, (), {})
    return str(routed["queue"].name if "queue" in routed else app.conf.task_default_queue)


@pytest.mark.parametrize("queue", [CPU_QUEUE, GPU_QUEUE])
def test_a_training_goes_to_the_kind_of_machine_that_is_set(tmp_path: Path, queue: str) -> None:
    assert queue_of(tmp_path, RUN_CYCLE, THUMBWHEEL_TRAINER__QUEUE=queue) == queue


@pytest.mark.parametrize("task", [SWEEP, SCORE])
def test_what_needs_no_gpu_never_waits_for_one(tmp_path: Path, task: str) -> None:
    assert queue_of(tmp_path, task, THUMBWHEEL_TRAINER__QUEUE=GPU_QUEUE) == CPU_QUEUE


def test_a_worker_without_any_queue_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"trainer\.worker_queues"):
        load_settings(tmp_path, {"THUMBWHEEL_TRAINER__WORKER_QUEUES": ""})
