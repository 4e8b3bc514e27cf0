"""The Celery app of every process: on Redis under the full profile, else on a broker that needs no server.

Brokers carry wake-ups only: whatever one loses, the registry's sweep sends again.
"""

from typing import Any

from celery import Celery

from infra.contracts.tasks import CPU_QUEUE, RUN_CYCLE
from infra.settings import Settings

RESULT_S = 3600  # a score that nobody fetched by then is asked for again
SOCKET_TIMEOUT_S = 5


def make_celery(settings: Settings) -> Celery:
    """Trainings go to the queue of their kind of machine, the rest to any worker without a GPU.

    Tasks acknowledge early: the registry's sweep, not the broker, starts again what lost its worker."""
    app = Celery("thumbwheel")
    app.conf.update(
        task_default_queue=CPU_QUEUE,
        task_routes={RUN_CYCLE: {"queue": settings.trainer.queue}},
        task_acks_late=False,  # Redis would hand a cycle out twice once its hour of visibility is over
        task_serializer="json",
        accept_content=["json"],
        result_expires=RESULT_S,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,  # our lines are written to stderr: they would become lines within lines
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # for ever: the broker may be away for longer than any count
        timezone="UTC",
        **(_redis(settings) if settings.infra.profile == "full" else _folder(settings)),
    )
    return app


def _redis(settings: Settings) -> dict[str, Any]:
    url = settings.infra.redis_url.get_secret_value()
    patience = {"socket_timeout": SOCKET_TIMEOUT_S, "socket_connect_timeout": SOCKET_TIMEOUT_S}
    return {
        "broker_url": url,
        "broker_transport_options": {**patience, "socket_keepalive": True},
        "result_backend": url,
        "redis_socket_timeout": SOCKET_TIMEOUT_S,
        "redis_socket_connect_timeout": SOCKET_TIMEOUT_S,
    }


def _folder(settings: Settings) -> dict[str, Any]:
    broker = settings.home / "broker"
    for name in ("queue", "control", "results"):
        (broker / name).mkdir(parents=True, exist_ok=True)
    return {
        "broker_url": "filesystem://",
        "broker_transport": "infra.broker.Transport",
        "broker_transport_options": {
            "data_folder_in": str(broker / "queue"),
            "data_folder_out": str(broker / "queue"),
            "control_folder": str(broker / "control"),
            "polling_interval": 0.2,  # kombu's own 1 s would be most of a small cycle's waiting
        },
        "result_backend": f"file://{broker / 'results'}",
    }
