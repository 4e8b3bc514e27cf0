import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.clock import now
from infra.demo import turn as turn_module
from infra.demo.assistant import Assistant
from infra.demo.operators import CycleTookTooLong, StepTaken
from infra.demo.traffic import Traffic
from infra.demo.turn import Turn, timed_rollback, turn
from tests.support.demo import FakeAdmin, FakeGateway, FakeShell, assistant_of

NEW, OLD = "assistant-1-abc", "base"


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_module, "PATIENCE_S", 0.3)
    monkeypatch.setattr(turn_module, "TRIAL_PATIENCE_S", 0.3)
    monkeypatch.setattr("infra.demo.operators.LOOK_EVERY_S", 0.02)


@asynccontextmanager
async def traffic_of(assistant: Assistant) -> AsyncIterator[Traffic]:
    yield Traffic(assistant, ["What is math.cos?"], 0.05, 0.01)


def ignore(done: int, total: int, note: str) -> None:
    """No screen in tests."""


async def nobody_votes(ended: asyncio.Event) -> None:
    """A trial that is over when the rollout is."""
    await ended.wait()


def make_shell(admin: FakeAdmin, assistant: Assistant) -> FakeShell:
    """`rollout start` and `rollback` take effect at once, and the next request is answered by the new version."""

    def act(arguments: tuple[str, ...]) -> str:
        version = arguments[2]
        admin.roll_out(version)
        assistant.tally.starts += [(time.time() + 0.02, NEW), (time.time() + 0.04, version)]
        return ""

    return FakeShell(effects={"rollout": act, "rollback": act, "cycle": lambda _: '{"cycle_id": "1"}'})


async def one_turn(admin: FakeAdmin, *, timeout_s: float = 5) -> tuple[Turn, FakeShell]:
    async with assistant_of(FakeGateway()) as assistant, traffic_of(assistant) as traffic:
        shell = make_shell(admin, assistant)
        if "accepted" in admin.cycle_states:  # the product promotes by itself
            shell.effects["cycle"] = lambda _: (
                shell.effects["rollout"](("rollout", "start", NEW)),
                '{"cycle_id": "1"}',
            )[1]
        async with admin.operator(shell) as operator:
            return await turn(operator, traffic, nobody_votes, ignore, timeout_s), shell


async def test_an_accepted_cycle_is_swapped_in_and_timed_from_its_acceptance() -> None:
    done, _ = await one_turn(FakeAdmin())
    assert done.swap is not None
    assert 0 <= done.swap.swap_ms < 200
    assert done.swap.drain_ms == 30
    assert done.cycle["state"] == "accepted"


async def test_a_waiting_cycle_is_rolled_out_by_the_operator_when_the_rule_says_so() -> None:
    gate = {"name": "judge", "blocking": True, "verdict": "inconclusive", "interval": {"value": 0.6}}
    done, shell = await one_turn(FakeAdmin(cycle_states=["gating", "awaiting_person"], gates=[gate]))
    assert done.swap is not None
    assert shell.ran[-1][:4] == ("rollout", "start", NEW, "--reason")
    assert done.decision == shell.ran[-1][4]


async def test_the_steps_of_a_rollout_are_told_with_their_votes_and_seconds() -> None:
    admin = FakeAdmin(steps=[(0.1, 12, 3.0), (0.5, 44, 8.5)])
    done, _ = await one_turn(admin)
    assert done.steps == [StepTaken("canary 10%", 12, 3.0), StepTaken("canary 50%", 44, 8.5)]


async def test_a_version_that_its_votes_speak_against_is_not_served_and_the_reason_is_told() -> None:
    done, _ = await one_turn(FakeAdmin(steps=[(0.1, 12, 3.0)], ends_as="aborted"))
    assert done.swap is None
    assert done.decision == "promoted by itself: every blocking gate passed; but its rollout aborted: as told"
    assert [step.votes for step in done.steps] == [12]


async def test_raters_vote_for_as_long_as_the_rollout_lasts() -> None:
    admin, seen = FakeAdmin(cycle_states=["accepted"]), list[str]()

    async def voting(ended: asyncio.Event) -> None:
        admin.roll_out(NEW)
        await ended.wait()
        seen.append("told that it is over")

    async with assistant_of(FakeGateway()) as assistant, traffic_of(assistant) as traffic:
        shell = FakeShell(effects={"cycle": lambda _: '{"cycle_id": "1"}'})
        async with admin.operator(shell) as operator:
            assistant.tally.starts.append((time.time() + 1, NEW))
            done = await turn(operator, traffic, voting, ignore, 5)
    assert done.swap is not None
    assert seen == ["told that it is over"]


async def test_a_waiting_cycle_that_the_rule_declines_swaps_nothing() -> None:
    gate = {"name": "kl", "blocking": True, "verdict": "fail", "interval": None}
    done, shell = await one_turn(FakeAdmin(cycle_states=["awaiting_person"], gates=[gate]))
    assert done.swap is None
    assert "kl" in done.decision
    assert [command[0] for command in shell.ran] == ["cycle"]


async def test_a_blocked_cycle_is_not_the_operator_s_to_promote() -> None:
    done, shell = await one_turn(FakeAdmin(cycle_states=["blocked"]))
    assert done.swap is None
    assert done.decision.startswith("blocked")
    assert [command[0] for command in shell.ran] == ["cycle"]


async def test_a_failed_cycle_has_no_version_and_says_why() -> None:
    done, _ = await one_turn(FakeAdmin(cycle_states=["failed"]))
    assert (done.adapter, done.swap) == (None, None)
    assert "as told" in done.decision


async def test_a_cycle_that_never_ends_is_given_up() -> None:
    with pytest.raises((CycleTookTooLong, TimeoutError)):
        await one_turn(FakeAdmin(cycle_states=["policy"]), timeout_s=0.1)


async def test_a_rollback_is_timed_to_the_last_request_that_began_on_the_old_version() -> None:
    admin = FakeAdmin()
    async with assistant_of(FakeGateway()) as assistant, traffic_of(assistant) as traffic:
        assistant.tally.starts.append((time.time() - 9, NEW))
        async with admin.operator(make_shell(admin, assistant)) as operator:
            spent = await timed_rollback(operator, traffic, NEW, OLD, "why not")
    assert spent is not None
    assert 5 < spent < 200


async def test_a_rollback_that_no_request_ran_into_took_no_time() -> None:
    admin = FakeAdmin()
    async with assistant_of(FakeGateway()) as assistant, traffic_of(assistant) as traffic:
        shell = FakeShell(effects={"rollback": lambda _: admin.roll_out(OLD)})
        assistant.tally.starts += [(time.time() - 9, NEW), (time.time() + 1, OLD)]
        async with admin.operator(shell) as operator:
            assert await timed_rollback(operator, traffic, NEW, OLD, "why not") == 0


async def test_a_rollback_that_fails_has_no_time() -> None:
    admin = FakeAdmin()
    async with assistant_of(FakeGateway()) as assistant, traffic_of(assistant) as traffic:
        shell = FakeShell(effects={"rollback": lambda _: admin.roll_out(OLD, state="failed")})
        async with admin.operator(shell) as operator:
            assert await timed_rollback(operator, traffic, NEW, OLD, "why not") is None


async def test_a_rollout_of_before_is_not_this_one() -> None:
    admin = FakeAdmin()
    admin.roll_out(NEW)
    async with admin.operator(FakeShell()) as operator:
        assert await operator.rollout_of(NEW, now(), patience_s=0.1) is None


async def test_stored_votes_are_counted_by_the_store_s_own_process() -> None:
    admin = FakeAdmin(votes=7)
    async with admin.operator(FakeShell()) as operator:
        assert await operator.votes_stored(7, patience_s=0.1) == 7
        assert await operator.votes_stored(9, patience_s=0.1) == 7  # said as it is once the patience has run out
