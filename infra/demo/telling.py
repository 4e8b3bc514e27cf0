"""From what happened to what is reported: the document of results.py, computed from a story."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from infra.demo.decision import verdicts
from infra.demo.evaluation import Answers, Examination
from infra.demo.play import BASE, Story
from infra.demo.results import BaseResult, Comparison, CycleResult, Example, Results, StepResult
from infra.demo.turn import Turn

MOST_FAILURES = 20
EXAMPLES = 3


def tell(story: Story, examination: Examination) -> Results:
    """Everything the report shows."""
    tally, options = story.tally, story.options
    return Results(
        seed=options.seed,
        votes=options.votes,
        setup_s=options.setup_s,
        wall_s=story.wall_s,
        stages=story.stages,
        base=_base(story, examination),
        last_vs_first=_last_vs_first(story, examination),
        requests=tally.requests,
        failed_requests=len(tally.failures),
        mixed_version_answers=len(tally.mixed),
        failures=[*tally.failures, *tally.mixed, *tally.refused][:MOST_FAILURES],
        votes_acknowledged=tally.acknowledged.total(),
        votes_stored=story.votes_stored,
        votes_refused=len(tally.refused),
        raters=dict(story.raters),
        cycles=[_cycle(number, story, examination) for number in range(1, len(story.turns) + 1)],
        rollback_ms=story.rollback_ms,
        rollforward_ms=story.rollforward_ms,
        examples=_examples(story, examination),
        lineage=lineage(story.turns, story.served[-1] if story.served else BASE),
    )


def _base(story: Story, examination: Examination) -> BaseResult:
    sampled = story.answers[BASE]
    greedy = examination.win_rate(story.greedy, sampled)
    return BaseResult(
        correct_rate=_rate(examination.correct_rate(sampled).value),
        mean_length=_rate(examination.mean_length(sampled)),
        greedy_win_rate=_rate(greedy.value),
        greedy_win_rate_ci=greedy.ci,
        greedy_correct_rate=_rate(examination.correct_rate(story.greedy).value),
        styles=examination.styles(sampled),
    )


def _cycle(number: int, story: Story, examination: Examination) -> CycleResult:
    done, served = story.turns[number - 1], story.served[number - 1]
    answers, base = story.answers[served], story.answers[BASE]
    won = examination.win_rate(answers, base)
    difference = examination.correct_difference(answers, base)
    return CycleResult(
        cycle=number,
        version=done.cycle["version"],
        served=served,
        state=done.cycle["state"],
        mean_length=_rate(examination.mean_length(answers)),
        gold_win_rate=_rate(won.value),
        gold_win_rate_ci=won.ci,
        correct_rate=_rate(examination.correct_rate(answers).value),
        correct_drop=_rate(-difference.value),
        correct_drop_ci=[_rate(-difference.hi), _rate(-difference.lo)],
        gates=verdicts(done.gates),
        decision=done.decision,
        steps=[StepResult(**asdict(step)) for step in done.steps],
        swap_ms=done.swap.swap_ms if done.swap else None,
        drain_ms=done.swap.drain_ms if done.swap else None,
        seconds=round(sum(story.stages.get(f"{stage}_{number}", 0.0) for stage in ("votes", "cycle", "report")), 1),
        styles=examination.styles(answers),
        answers=sum(len(given) for given in (*answers.values(), *base.values())),
        **_training(done),
    )


def _training(done: Turn) -> dict[str, Any]:
    """What the product says about the dataset and the version of the cycle. Pairs are all strict choices in it."""
    metrics = (done.adapter or {}).get("manifest", {}).get("metrics", {})
    dataset = done.dataset or {"sha256": None, "manifest": {"counts": {}}}
    pairs = dataset["manifest"]["counts"].get("preference", {})
    return {
        "dataset_sha256": dataset["sha256"],
        "pairs": sum(pairs.values()),
        "reward_accuracy": metrics.get("reward_accuracy"),
        "kl": metrics.get("objective/kl"),
    }


def _last_vs_first(story: Story, examination: Examination) -> Comparison:
    """With one cycle the last is the first: one half, exactly."""
    if not story.served:
        return Comparison(win_rate=0.5, ci=[0.5, 0.5])
    won = examination.win_rate(story.answers[story.served[-1]], story.answers[story.served[0]])
    return Comparison(win_rate=_rate(won.value), ci=won.ci)


def _examples(story: Story, examination: Examination) -> list[Example]:
    """The first answers, in the order of the questions, that differ: nobody picked them."""
    before, after = story.answers[BASE], story.answers[story.served[-1]] if story.served else {}
    pairs = [(text, before[text][0], after[text][0]) for text in examination.questions if _both(before, after, text)]
    different = [Example(question=text, before=old, after=new) for text, old, new in pairs if old != new]
    return different[:EXAMPLES]


def _both(before: Answers, after: Answers, text: str) -> bool:
    return bool(before.get(text)) and bool(after.get(text))


def lineage(turns: Sequence[Turn], served: str) -> list[dict[str, Any]]:
    """From the served version back to the base: what each was trained from and on."""
    manifests: Mapping[str, dict[str, Any]] = {
        done.adapter["version"]: done.adapter["manifest"] for done in turns if done.adapter is not None
    }
    chain: list[dict[str, Any]] = []
    while served in manifests:
        manifest = manifests[served]
        kept = (
            "version",
            "parent",
            "init",
            "anchor",
            "method",
            "reward_model",
            "dataset_ids",
            "dataset_sha256",
            "sha256",
            "seeds",
        )
        chain.append({name: manifest.get(name) for name in kept})
        served = manifest.get("parent") or BASE
    return [*chain, {"version": BASE}]


def _rate(value: float) -> float:
    return round(value, 4) + 0.0  # no minus zero
