"""What reward models say for the gates: the judge of both sides' answers, and the reward model of held-out raters.

The judge learnt from raters whose votes the policy never met; the reward model is compared with the one that the
champion came with, segment by segment.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.contracts.manifests import Interval, SegmentResult
from infra.registry.cycles import CycleState
from trainer import data
from trainer.data import Preference, Prompt, read_table
from trainer.evaluate import Grouped, regrouped, win_rate
from trainer.length_control import controlled_win_rate, make_pairs
from trainer.lines import Encoded
from trainer.reward_metrics import Judged
from trainer.reward_segments import falls, gaps
from trainer.rewarding import Reward
from trainer.rewards.card import judged, score_pairs
from trainer.rewards.ensemble import load_reward
from trainer.sampling import Sampled
from trainer.segments import by_segment
from trainer.stages.material import Material

WHOLE = "the whole"
Answered = Sequence[Sequence[Sampled]]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The judge's, of candidate and champion: `scores` by side. Empty where too few raters were kept for a judge."""

    scores: tuple[Grouped, Grouped] | None = None
    win_rate: Interval | None = None
    controlled: Interval | None = None
    segments: dict[str, SegmentResult] | None = None


@dataclass(frozen=True, slots=True)
class Falls:
    """How far reward accuracy lies below `against` in each segment."""

    segments: dict[str, SegmentResult]
    against: str = ""


def judge_sides(material: Material, prompts: Sequence[Prompt], sides: tuple[Answered, Answered]) -> Judgement:
    directory = material.holding.work.at(CycleState.REWARD) / "judge"
    if not directory.is_dir() or not prompts:
        return Judgement()
    with _opened(material, directory) as judge:
        scores = _scores(judge, sides[0]), _scores(judge, sides[1])
    lengths = _lengths(sides[0]), _lengths(sides[1])

    def of(rows: Sequence[int]) -> Interval | None:
        return win_rate([scores[0][row] for row in rows], [scores[1][row] for row in rows])

    segments, places = [prompt.segment for prompt in prompts], [str(place) for place in range(len(prompts))]
    return Judgement(
        scores=scores,
        win_rate=win_rate(*scores),
        controlled=controlled_win_rate(make_pairs(scores, lengths)),
        segments=by_segment(segments, places, of, least=material.settings.segment_min_prompts),
    )


def reward_falls(material: Material, champion: str) -> Falls:
    """Against the champion's reward model, on what both can judge; without one, against this one's own whole."""
    directory = material.holding.work.at(CycleState.REWARD) / "reward"
    held_out = data.preferences(read_table(material.dataset, "preference", "test"))
    pairs = [pair for pair in held_out if pair.sampled]
    if not directory.is_dir() or not any(pair.segment for pair in pairs):
        return Falls({})
    least = material.settings.segment_min_raters
    rows = _judged(material, directory, pairs)
    earlier = material.reward_of(champion)
    if earlier is None:
        return Falls(gaps(rows, least=least), WHOLE)
    return Falls(falls(rows, _judged(material, earlier.files, pairs), least=least), earlier.name)


def _judged(material: Material, directory: Path, pairs: Sequence[Preference]) -> list[Judged]:
    with _opened(material, directory) as model:
        return judged(model, score_pairs(model, pairs))


@contextmanager
def _opened(material: Material, directory: Path) -> Iterator[Reward]:
    model = load_reward(material.base, directory, "judging")
    try:
        yield model
    finally:
        model.close()


def _scores(judge: Reward, gate: Answered) -> list[list[float]]:
    rows = [Encoded(answer.prompt_ids, answer.token_ids) for group in gate for answer in group]
    return regrouped(judge.score_encoded(rows).tolist(), gate)


def _lengths(groups: Answered) -> list[list[float]]:
    return [[float(len(answer.token_ids)) for answer in group] for group in groups]
