import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty

import pytest
from celery import Celery

from infra.celery_app import make_celery
from infra.settings import load_settings

MESSAGES = 300


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Celery]:
    made = make_celery(load_settings(tmp_path, {}))
    yield made
    made.close()


def take(app: Celery, count: int) -> list[str]:
    """The ids of that many messages; raises Empty where they do not come."""
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        found = [queue.get(timeout=10) for _ in range(count)]
        for message in found:
            message.ack()
        queue.close()
    return [message.headers["id"] for message in found]


def test_no_message_can_be_seen_before_it_is_whole(app: Celery, tmp_path: Path) -> None:
    sender = threading.Thread(target=lambda: [app.send_task("any") for _ in range(MESSAGES)])
    sender.start()
    sizes: set[int] = set()
    while sender.is_alive():
        sizes |= {path.stat().st_size for path in (tmp_path / "broker" / "queue").glob("[!.]*.msg")}
    assert 0 not in sizes
    assert len(take(app, MESSAGES)) == MESSAGES


def test_a_message_that_is_still_being_written_is_not_there_yet(app: Celery, tmp_path: Path) -> None:
    app.send_task("any")
    (written,) = (tmp_path / "broker" / "queue").iterdir()
    written.rename(written.with_name(f".{written.name}"))
    with app.connection_for_read() as connection, pytest.raises(Empty):
        connection.SimpleQueue(app.conf.task_default_queue).get(timeout=0.5)


def test_a_table_that_a_killed_process_left_empty_is_made_anew(app: Celery, tmp_path: Path) -> None:
    app.conf.task_default_queue = "another"  # kombu knows for a whole process what it has bound
    (tmp_path / "broker" / "control" / "another.exchange").touch()
    sent = app.send_task("any").id
    assert take(app, 1) == [sent]
