"""Celery tasks: a few lines each over plain functions. They carry ids only; the registry knows the rest."""

from celery import Celery

from infra.celery_app import make_celery
from infra.contracts.tasks import RUN_CYCLE, SCORE, SWEEP
from infra.ports import Ports
from trainer.launch import Launcher
from trainer.scoring import score_in_child
from trainer.sweep import sweep


def make_app(ports: Ports, launcher: Launcher) -> Celery:
    """The app of the worker process, with its tasks."""
    app = make_celery(ports.settings)
    expires_s = max(10.0, 5 * ports.settings.trainer.sweep_s)  # what nobody took is sent again by the next sweep

    @app.task(name=RUN_CYCLE, ignore_result=True)
    def run_cycle(cycle_id: str) -> str:
        return launcher.run(cycle_id)

    @app.task(name=SWEEP, ignore_result=True)
    def run_sweep() -> None:
        sweep(ports, lambda cycle_id: run_cycle.apply_async((cycle_id,), expires=expires_s))

    @app.task(name=SCORE)
    def score(reward_model: str, path: str) -> str:
        return score_in_child(ports, reward_model, path, launcher.stop)

    return app
