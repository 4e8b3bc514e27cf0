import pytest

from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import adapters, audit, leases, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.rollouts import RolloutState
from infra.registry.wishes import Wish
from tests.support.manifests import make_adapter_manifest


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def publish(database: Database, version: str, state: AdapterState = AdapterState.ACCEPTED) -> str:
    with database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=version), f"adapters/{version}")
        adapters.move(session, version, state)
    return version


def promote(database: Database, version: str, champion: str = "base", *, force: bool = False) -> str:
    with database.transaction() as session:
        return wishes.promote(session, Wish(version, champion, "ada", "better", force=force)).rollout_id


def finish(database: Database, rollout_id: str) -> None:
    with database.transaction() as session:
        lease = leases.acquire(session, "controller", "controller", 10)
        assert lease
        for state in (RolloutState.LOADING, RolloutState.DRAINING, RolloutState.DONE):
            row = rollouts.advance(session, lease, rollout_id, state)
        rollouts.champion_states(session, row)


def state_of(database: Database, version: str) -> str:
    with database.reading() as session:
        return adapters.get(session, version).state


def test_an_accepted_version_becomes_champion_and_is_audited(database: Database) -> None:
    finish(database, promote(database, publish(database, "assistant-1-aaaaaaaa")))
    assert state_of(database, "assistant-1-aaaaaaaa") == "champion"
    with database.reading() as session:
        entry = audit.list_entries(session, "default", subject="assistant-1-aaaaaaaa")[0]
    assert (entry.before, entry.after["champion"]) == ({"champion": "base"}, "assistant-1-aaaaaaaa")


def test_only_one_rollout_of_an_alias_is_under_way(database: Database) -> None:
    promote(database, publish(database, "assistant-1-aaaaaaaa"))
    with pytest.raises(Conflict, match="under way|wait for it"):
        promote(database, publish(database, "assistant-2-bbbbbbbb"))


def test_a_refused_version_can_never_be_promoted(database: Database) -> None:
    publish(database, "assistant-1-aaaaaaaa", AdapterState.REFUSED)
    with pytest.raises(IllegalTransition, match="refused"):
        promote(database, "assistant-1-aaaaaaaa")


def test_a_person_may_promote_what_was_blocked(database: Database) -> None:
    promote(database, publish(database, "assistant-1-aaaaaaaa", AdapterState.BLOCKED))
    assert state_of(database, "assistant-1-aaaaaaaa") == "accepted"


def test_a_version_of_another_tenant_does_not_exist(database: Database) -> None:
    publish(database, "assistant-1-aaaaaaaa")
    with pytest.raises(NotFound), database.transaction() as session:
        wishes.promote(session, Wish("assistant-1-aaaaaaaa", "base", "eve", "", tenant="other"))


def test_a_rollback_without_a_target_goes_to_what_was_replaced(database: Database) -> None:
    finish(database, promote(database, publish(database, "assistant-1-aaaaaaaa")))
    finish(database, promote(database, publish(database, "assistant-2-bbbbbbbb"), "assistant-1-aaaaaaaa"))
    with database.reading() as session:
        assert rollouts.previous_version(session, "assistant") == "assistant-1-aaaaaaaa"


def roll_back(database: Database, champion: str, version: str = "") -> str:
    """To `version`, or wherever a rollback without a target goes; returns where that was."""
    with database.transaction() as session:
        version = version or rollouts.previous_version(session, "assistant")
        wish = Wish(version, champion, "ada", "worse")
        row = wishes.rollback(session, wish, tenant="default", alias="assistant")
    finish(database, row.rollout_id)
    return version


def two_promotions(database: Database) -> tuple[str, str]:
    first, second = publish(database, "assistant-1-aaaaaaaa"), publish(database, "assistant-2-bbbbbbbb")
    finish(database, promote(database, first))
    finish(database, promote(database, second, first))
    return first, second


def test_a_second_rollback_goes_back_further_and_never_to_what_the_first_one_left(database: Database) -> None:
    first, second = two_promotions(database)
    assert roll_back(database, second) == first
    assert roll_back(database, first) == "base"
    with pytest.raises(NotFound, match="before base"):
        roll_back(database, "base")


def test_after_a_roll_forward_a_rollback_goes_to_what_that_replaced(database: Database) -> None:
    _, second = two_promotions(database)
    roll_back(database, second, "base")
    finish(database, promote(database, second, force=True))
    assert roll_back(database, second) == "base"


def test_promoting_an_earlier_version_again_is_undone_by_a_rollback_to_the_later_one(database: Database) -> None:
    first, second = two_promotions(database)
    finish(database, promote(database, first, second))
    assert roll_back(database, first) == second


def test_with_nothing_rolled_out_there_is_nothing_to_go_back_to(database: Database) -> None:
    with pytest.raises(NotFound, match="never been rolled out"), database.reading() as session:
        rollouts.previous_version(session, "assistant")


def test_a_rollback_marks_what_it_leaves(database: Database) -> None:
    finish(database, promote(database, publish(database, "assistant-1-aaaaaaaa")))
    with database.transaction() as session:
        wish = Wish("base", "assistant-1-aaaaaaaa", "ada", "worse")
        row = wishes.rollback(session, wish, tenant="default", alias="assistant")
    finish(database, row.rollout_id)
    assert state_of(database, "assistant-1-aaaaaaaa") == "rolled_back"


def test_a_rollback_supersedes_a_promotion_that_is_still_loading(database: Database) -> None:
    first = publish(database, "assistant-1-aaaaaaaa")
    finish(database, promote(database, first))
    loading = promote(database, publish(database, "assistant-2-bbbbbbbb"), first)
    with database.transaction() as session:
        wishes.rollback(session, Wish("base", first, "ada", "worse"), tenant="default", alias="assistant")
    with database.reading() as session:
        assert rollouts.get(session, loading).state == "aborted"


def test_rolling_back_to_what_never_served_is_refused(database: Database) -> None:
    wish = Wish(publish(database, "assistant-1-aaaaaaaa"), "base", "ada", "")
    with pytest.raises(IllegalTransition, match="only what has served"), database.transaction() as session:
        wishes.rollback(session, wish, tenant="default", alias="assistant")


def test_registering_a_version_twice_keeps_the_first(database: Database) -> None:
    publish(database, "assistant-1-aaaaaaaa")
    with database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version="assistant-1-aaaaaaaa"), "elsewhere")
    with database.reading() as session:
        assert adapters.get(session, "assistant-1-aaaaaaaa").path == "adapters/assistant-1-aaaaaaaa"
