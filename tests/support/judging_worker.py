"""A worker that scores by length, for tests of who asks: `python -m tests.support.judging_worker`.

Its settings come from the environment, as the trainer's do. A judge called `broken` fails, one called `silent` writes
nothing, one called `odd` a score too few.
"""

import json

from celery import Celery

from infra.celery_app import make_celery
from infra.contracts.tasks import SCORE
from infra.ports import Ports
from infra.settings import load_settings


def make_app(ports: Ports) -> Celery:
    app = make_celery(ports.settings)

    @app.task(name=SCORE)
    def score(judge: str, path: str) -> str:
        if judge == "broken":
            raise RuntimeError("this judge is broken")
        asked = json.loads(ports.artifacts.read(path))
        scores = [float(len(one["completion"])) for one in asked][: -1 if judge == "odd" else None]
        if judge != "silent":
            ports.artifacts.write(f"{path}.scores.json", json.dumps(scores).encode())
        return f"{path}.scores.json"

    return app


if __name__ == "__main__":
    make_app(Ports(load_settings())).Worker(
        pool="threads", concurrency=1, loglevel="WARNING", without_gossip=True, without_mingle=True
    ).start()
