"""Evidence from answers and scores: what the gates will read. Pure functions; who sampled and scored is elsewhere.

Everything is grouped by prompt, `values[prompt][sample]`: the prompt is the independent unit of every interval.
"""

from collections.abc import Sequence
from itertools import product

from infra.contracts.manifests import Interval, Sample
from trainer.intervals import difference_interval, mean_interval, ratio_interval, share_interval
from trainer.probes import PROBES

Grouped = Sequence[Sequence[float]]
Texts = Sequence[Sequence[str]]


def mean_by_prompt(values: Grouped) -> Interval | None:
    return mean_interval([_mean(group) for group in values if group])


def win_rate(candidate: Grouped, champion: Grouped) -> Interval | None:
    """Share of pairs of answers to one prompt in which the candidate's scores higher; ties count half."""
    return share_interval(
        [_wins(mine, theirs) for mine, theirs in zip(candidate, champion, strict=True) if mine and theirs]
    )


def length_ratio(candidate: Grouped, champion: Grouped) -> Interval | None:
    """Candidate's over champion's mean answer length."""
    pairs = [(mine, theirs) for mine, theirs in zip(candidate, champion, strict=True) if mine and theirs]
    return ratio_interval([_mean(mine) for mine, _ in pairs], [_mean(theirs) for _, theirs in pairs])


def probe_rates(candidate: Texts, champion: Texts) -> dict[str, dict[str, float]]:
    """Share of answers on which each probe says yes."""
    return {
        name: {"candidate": _mean(_flat(_shares(name, candidate))), "champion": _mean(_flat(_shares(name, champion)))}
        for name in PROBES
    }


def probe_drift(candidate: Texts, champion: Texts) -> dict[str, Interval]:
    """Candidate's minus champion's rate, paired by prompt."""
    drifts = {name: _drift(name, candidate, champion) for name in PROBES}
    return {name: drift for name, drift in drifts.items() if drift is not None}


def samples(
    prompts: Sequence[tuple[str, list[dict[str, object]]]],
    texts: tuple[Texts, Texts],
    scores: tuple[Grouped, Grouped] | None,
    *,
    most: int,
) -> list[Sample]:
    """The first answer of each side to the first `most` prompts. `prompts` are (id, messages)."""
    return [
        Sample(
            prompt_id=prompt_id,
            prompt=messages,
            candidate=texts[0][i][0],
            champion=texts[1][i][0],
            judge_candidate=scores[0][i][0] if scores else None,
            judge_champion=scores[1][i][0] if scores else None,
        )
        for i, (prompt_id, messages) in enumerate(prompts[:most])
        if texts[0][i] and texts[1][i]
    ]


def _wins(mine: Sequence[float], theirs: Sequence[float]) -> float:
    return _mean([0.5 if ours == other else float(ours > other) for ours, other in product(mine, theirs)])


def _drift(name: str, candidate: Texts, champion: Texts) -> Interval | None:
    pairs = zip(_shares(name, candidate), _shares(name, champion), strict=True)
    return difference_interval([_mean(mine) - _mean(theirs) for mine, theirs in pairs if mine and theirs])


def _shares(name: str, texts: Texts) -> list[list[float]]:
    probe = PROBES[name]
    return [[float(probe(text)) for text in group] for group in texts]


def regrouped(values: Sequence[float], like: Sequence[Sequence[object]]) -> list[list[float]]:
    """One value for each answer, in their groups again."""
    rest = iter(values)
    return [[next(rest) for _ in group] for group in like]


def _flat(values: Grouped) -> list[float]:
    return [value for group in values for value in group]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
