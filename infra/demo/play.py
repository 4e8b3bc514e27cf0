"""The whole run, start to finish: reads like the story the report tells."""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from infra.clock import now
from infra.demo.assistant import Assistant, Tally, connect
from infra.demo.corpus import asked_questions, regression_rows, training_rows, write_jsonl
from infra.demo.crowd import Crowd
from infra.demo.evaluation import Answers, Examination, report_questions
from infra.demo.operators import Operator, operating
from infra.demo.plan import Plan
from infra.demo.raters import Votes, recruit
from infra.demo.screen import Screen
from infra.demo.stack import Addresses, Stack
from infra.demo.symbols import Symbol, stdlib_symbols
from infra.demo.taste import Taste
from infra.demo.traffic import Traffic
from infra.demo.turn import Turn, timed_rollback, timed_swap, turn

BASE = "base"
VOTES_PATIENCE_S = 15.0  # the count is taken every few seconds
ROLLBACK_REASON = "the demo shows that a swap can be undone"


@dataclass(frozen=True, slots=True)
class Options:
    seed: int = 0
    votes: Votes = "taste"
    cycles: int = 3
    method: str = "grpo"
    profile: str = "embedded"
    keep: bool = False
    directory: Path = Path(".thumbwheel/demo")
    setup_s: float | None = None


@dataclass(slots=True)
class Story:
    """All that happened; results.py's document is computed from it."""

    options: Options
    plan: Plan
    tally: Tally = field(default_factory=Tally)
    raters: Counter[str] = field(default_factory=Counter)
    turns: list[Turn] = field(default_factory=list)
    served: list[str] = field(default_factory=list)  # after each cycle
    answers: dict[str, Answers] = field(default_factory=dict)  # by version
    greedy: Answers = field(default_factory=dict)
    rollback_ms: float | None = None
    rollforward_ms: float | None = None
    votes_stored: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    wall_s: float = 0.0
    address: str = ""


@dataclass(frozen=True, slots=True)
class Cast:
    """Who and what takes part once the stack is up."""

    operator: Operator
    crowd: Crowd
    traffic: Traffic
    examination: Examination


async def play(options: Options, plan: Plan, screen: Screen) -> tuple[Story, Examination]:
    """Runs everything and leaves nothing running unless `keep`; raises CommandFailed where a command does."""
    began = time.monotonic()
    story, stack = Story(options, plan), Stack(options.directory.absolute())
    symbols = stdlib_symbols(plan.symbols)
    async with AsyncExitStack() as clean_up:
        with screen.stage("base"):
            await stack.clear()
            await _make_base(stack, options, plan, symbols, screen)
        with screen.stage("start"):
            if not options.keep:
                clean_up.push_async_callback(stack.down)
            addresses = await stack.up(options.profile)
        story.address = addresses.gateway
        cast = await _cast(stack, addresses, story, symbols, clean_up)
        async with cast.traffic.flowing():
            await _show_the_base(cast, story, screen)
            for number in range(1, options.cycles + 1):
                await _one_cycle(cast, story, screen, number)
            with screen.stage("rollback"):
                await _back_and_forth(cast, story)
        story.votes_stored = await cast.operator.votes_stored(story.tally.acknowledged.total(), VOTES_PATIENCE_S)
    story.stages, story.wall_s = dict(screen.spent), round(time.monotonic() - began, 1)
    return story, cast.examination


async def _make_base(stack: Stack, options: Options, plan: Plan, symbols: Sequence[Symbol], screen: Screen) -> None:
    write_jsonl(stack.corpus, training_rows(symbols, options.seed))
    write_jsonl(stack.checks, regression_rows(symbols, plan.checks, options.seed))
    stack.configure(plan, options.seed, options.method)
    await stack.train_base(plan, options.seed, screen.show)


async def _cast(
    stack: Stack, addresses: Addresses, story: Story, symbols: Sequence[Symbol], clean_up: AsyncExitStack
) -> Cast:
    plan, options, keys = story.plan, story.options, stack.keys()
    client: Assistant = await clean_up.enter_async_context(connect(story.address, keys.client, story.tally))
    examiner = await clean_up.enter_async_context(connect(story.address, keys.admin, story.tally))
    operator = await clean_up.enter_async_context(operating(stack.shell, addresses, keys.admin))
    raters, taste = recruit(plan.raters, options.seed), Taste(tuple(symbols))
    story.raters.update(rater.habit.value for rater in raters)
    questions = asked_questions(symbols)
    return Cast(
        operator,
        Crowd(client, taste, raters, questions, plan, options.seed, options.votes),
        Traffic(client, [text for _, text in questions], plan.traffic_every_s, plan.traffic_every_s_near_a_swap),
        Examination(examiner, taste, report_questions(symbols, plan.report_questions, options.seed), plan),
    )


async def _show_the_base(cast: Cast, story: Story, screen: Screen) -> None:
    with screen.stage("report_base"):
        story.answers[BASE] = await cast.examination.sit(BASE, progress=screen.show)
        story.greedy = await cast.examination.sit(BASE, greedy=True, progress=screen.show)
    screen.say(f"right answers {cast.examination.correct_rate(story.answers[BASE]).value:.1%}")


async def _one_cycle(cast: Cast, story: Story, screen: Screen, number: int) -> None:
    with screen.stage(f"votes_{number}"):
        await cast.crowd.rate(number, screen.show)
    with screen.stage(f"cycle_{number}"):
        trial = partial(cast.crowd.try_out, number)
        done = await turn(cast.operator, cast.traffic, trial, screen.show, story.plan.cycle_timeout_s)
    before = story.served[-1] if story.served else BASE
    served = done.cycle["version"] if done.swap else before
    story.turns.append(done)
    story.served.append(served)
    with screen.stage(f"report_{number}"):
        if served not in story.answers:
            story.answers[served] = await cast.examination.sit(served, progress=screen.show)
    _tell(cast.examination, story, screen, done)


def _tell(examination: Examination, story: Story, screen: Screen, done: Turn) -> None:
    won = examination.win_rate(story.answers[story.served[-1]], story.answers[BASE])
    right = examination.correct_rate(story.answers[story.served[-1]])
    swap = f"swapped in {done.swap.swap_ms:.0f} ms" if done.swap else "nothing swapped"
    screen.say(
        f"{story.served[-1]}: wins {won.value:.2f} [{won.lo:.2f}, {won.hi:.2f}], right {right.value:.1%}, {swap}"
    )
    screen.say(f"[dim]{done.decision}[/]")


async def _back_and_forth(cast: Cast, story: Story) -> None:
    """Back to what was served before the last version, and forward to it again, under the same load."""
    served = story.served[-1]
    target = next((version for version in reversed(story.served) if version != served), BASE)
    if served == BASE:
        return
    cast.traffic.hurry()
    try:
        story.rollback_ms = await timed_rollback(cast.operator, cast.traffic, served, target, ROLLBACK_REASON)
        since = now()
        await cast.operator.shell.run("promote", served, "--force", "--reason", "and forward again")
        forward = await timed_swap(cast.operator, cast.traffic, served, since)
        story.rollforward_ms = forward.swap_ms if forward else None
    finally:
        cast.traffic.calm()
