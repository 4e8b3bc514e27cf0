"""The Celery app: a broker that needs no server, in the state directory. It carries wake-ups only."""

from celery import Celery

from infra.contracts.tasks import TRAINER_QUEUE
from infra.settings import Settings


def make_celery(settings: Settings) -> Celery:
    """Tasks acknowledge early: the registry's sweep, not the broker, starts again what lost its worker."""
    app = Celery("thumbwheel")
    broker = settings.home / "broker"
    for name in ("queue", "control", "results"):
        (broker / name).mkdir(parents=True, exist_ok=True)
    app.conf.update(
        broker_url="filesystem://",
        broker_transport="infra.broker.Transport",
        broker_transport_options={
            "data_folder_in": str(broker / "queue"),
            "data_folder_out": str(broker / "queue"),
            "control_folder": str(broker / "control"),
            "polling_interval": 0.2,  # kombu's own 1 s would be most of a small cycle's waiting
        },
        result_backend=f"file://{broker / 'results'}",
        task_default_queue=TRAINER_QUEUE,
        task_acks_late=False,
        task_serializer="json",
        accept_content=["json"],
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # our lines are written to stderr: they would become lines within lines
        broker_connection_retry_on_startup=True,
        timezone="UTC",
    )
    return app
