"""What became of rollouts waits for the log in the transaction that changed it."""

import pytest

from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import adapters, leases, news, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.errors import IllegalTransition
from infra.registry.rollouts import RolloutState
from infra.registry.wishes import Wish
from tests.support.manifests import make_adapter_manifest

VERSION = "assistant-1-aaaaaaaa"


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


@pytest.fixture
def rollout_id(database: Database) -> str:
    with database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=VERSION), f"adapters/{VERSION}")
        adapters.move(session, VERSION, AdapterState.ACCEPTED)
        return wishes.promote(session, Wish(VERSION, "base", "ada", "better")).rollout_id


def advance(database: Database, rollout_id: str, *states: RolloutState, error: str | None = None) -> None:
    with database.transaction() as session:
        lease = leases.acquire(session, "controller", "controller", 10)
        assert lease
        for state in states:
            rollouts.advance(session, lease, rollout_id, state, error=error)


def told(database: Database) -> list[dict[str, object]]:
    with database.reading() as session:
        return [row.body for row in news.oldest(session, 100)]


def test_every_move_of_a_rollout_is_news_in_the_order_in_which_it_happened(database: Database, rollout_id: str) -> None:
    advance(database, rollout_id, RolloutState.LOADING, RolloutState.DRAINING, RolloutState.DONE)
    moves = [(body["before"], body["state"]) for body in told(database)]
    assert moves == [(None, "requested"), ("requested", "loading"), ("loading", "draining"), ("draining", "done")]
    first = told(database)[0]
    assert (first["rollout_id"], first["version"], first["actor"], first["reason"]) == (
        rollout_id, VERSION, "ada", "better",
    )  # fmt: skip


def test_news_of_a_failure_says_why(database: Database, rollout_id: str) -> None:
    advance(database, rollout_id, RolloutState.FAILED, error="it could not be loaded")
    assert told(database)[-1]["error"] == "it could not be loaded"


def test_a_move_that_is_not_allowed_is_no_news(database: Database, rollout_id: str) -> None:
    with pytest.raises(IllegalTransition):
        advance(database, rollout_id, RolloutState.LOADING, RolloutState.DONE)
    assert [body["state"] for body in told(database)] == ["requested"], "the whole transaction was taken back"


def test_what_was_told_is_forgotten_and_the_rest_kept(database: Database, rollout_id: str) -> None:
    advance(database, rollout_id, RolloutState.LOADING)
    with database.transaction() as session:
        news.forget(session, [news.oldest(session, 1)[0].news_id])
    assert [body["state"] for body in told(database)] == ["loading"]
