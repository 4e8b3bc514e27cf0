"""What held-out raters' votes on logged answers say about the candidate, before anybody has seen an answer of it.

Held-out raters' alone: their votes trained neither the policy nor the reward model that it followed, so that the
weights owe nothing to the very votes that they weigh.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog

from infra.base_model import template_hash
from infra.contracts.manifests import DatasetManifest, OffPolicy
from infra.registry.cycles import CycleState
from trainer import off_policy as estimating
from trainer.data import read_table
from trainer.divergence import tempered_logprobs
from trainer.lines import Encoded
from trainer.logged import Logged, Origin, Vote, drawn, usable
from trainer.off_policy import Estimate, Votes
from trainer.rewarding import RewardModel
from trainer.stages.contest import Side, ask
from trainer.stages.material import Material
from trainer.vote_model import cross_fitted

log = structlog.get_logger()


def off_policy(material: Material, candidate: Side, champion: str) -> OffPolicy | None:
    """None where `trainer.off_policy_answers` asks for none. The candidate's adapter is on the base in memory."""
    settings, base = material.settings, material.base
    if not settings.off_policy_answers:
        return None
    origin = Origin(base.revision, template_hash(base.directory), settings.max_length)
    logged = usable(read_table(material.dataset, "unpaired", "test"), origin)
    chosen = drawn(logged.votes, settings.off_policy_answers, settings.seed)
    if not chosen:
        return OffPolicy(left_out=logged.left_out)
    temperatures = [vote.temperature for vote in chosen]
    logprobs = tempered_logprobs(base, [vote.encoded for vote in chosen], temperatures, candidate.adapter)
    votes = weighed(chosen, logprobs, lost=bool(logged.lost_versions))
    guessed = _guessed(material, candidate, chosen, votes) if votes.effective_size else None
    found = described(logged, chosen, votes, champion, material.dataset_manifest, guessed)
    log.info("off_policy_estimated", votes=found.votes, effective_size=round(found.effective_size, 1))
    return found


def weighed(chosen: Sequence[Vote], logprobs: Sequence[float], *, lost: bool) -> Votes:
    """`lost`: some arm's votes are not among them, so that each stands for the others' prompts too."""
    names = sorted({vote.rater for vote in chosen})
    places = {name: place for place, name in enumerate(names)}
    return Votes(
        up_N=np.array([float(vote.up) for vote in chosen]),
        behaviour_N=np.array([vote.logprob for vote in chosen]),
        candidate_N=np.array(logprobs, dtype=np.float64),
        rater_N=np.array([places[vote.rater] for vote in chosen]),
        mass_N=np.array([vote.weight / (vote.propensity if lost else 1.0) for vote in chosen]),
    )


def described(
    logged: Logged, chosen: Sequence[Vote], votes: Votes, champion: str, manifest: DatasetManifest,
    guessed: Estimate | None,
) -> OffPolicy:  # fmt: skip
    basis = _basis(logged, chosen, votes)
    if not votes.effective_size:
        return basis  # nothing of what was voted on would the candidate say
    candidate, before = estimating.snips(votes), _champion(chosen, votes, champion)
    voting, weight = _voting_rate(manifest, set(basis.versions)), estimating.mean_weight(votes)
    found = {
        "mean_weight": weight,
        "ips": estimating.ips(votes).interval(0.0, np.inf),
        "snips": candidate.interval(0.0, 1.0),
        "dr": guessed.interval(0.0, 1.0) if guessed else None,
        "champion": before.interval(0.0, 1.0) if before else None,
        "difference": (candidate - before).interval(-1.0, 1.0) if before else None,
        "voting_rate": voting,
        "voting_rate_candidate": None if voting is None else voting * weight,
    }
    return basis.model_copy(update=found)


def _basis(logged: Logged, chosen: Sequence[Vote], votes: Votes) -> OffPolicy:
    """What an estimate rests on."""
    spare = len(logged.votes) - len(chosen)
    return OffPolicy(
        votes=len(chosen),
        raters=len({vote.rater for vote in chosen}),
        versions=dict(sorted(Counter(vote.version for vote in chosen).items())),
        mean_tokens=float(np.mean([len(vote.encoded.answer) for vote in chosen])),
        effective_size=votes.effective_size,
        weight_cap=votes.cap,
        clipped=votes.clipped,
        left_out={**logged.left_out, **({"not_drawn": spare} if spare else {})},
    )


def _champion(chosen: Sequence[Vote], votes: Votes, champion: str) -> Estimate | None:
    """Its rate on its own answers. Over the chance of its arm: how much traffic it had when is not its merit."""
    its_N = np.array([vote.version == champion for vote in chosen])
    mass_N = np.array([vote.weight / vote.propensity for vote in chosen])
    return estimating.plain(replace(votes, mass_N=mass_N), its_N) if its_N.any() else None


def _voting_rate(manifest: DatasetManifest, versions: set[str]) -> float | None:
    known = [counts for name, counts in manifest.voting.items() if name in versions]
    answers = sum(counts.answers for counts in known)
    return sum(counts.votes for counts in known) / answers if answers else None


def _guessed(material: Material, candidate: Side, chosen: Sequence[Vote], votes: Votes) -> Estimate | None:
    """Doubly robust, by the judge's scores; None where raters were too few for a judge.

    The judge, since the policy was not optimised against it. The candidate answers each logged prompt as often as a
    gate prompt, at the temperature that most answers had.
    """
    directory = material.holding.work.at(CycleState.REWARD) / "judge"
    if not directory.is_dir():
        return None
    ((usual, _),) = Counter(vote.temperature for vote in chosen).most_common(1)
    side = replace(candidate, role=f"{candidate.role}_guessed")  # an engine knows each name once
    answered = ask(material, side, [vote.prompt for vote in chosen], [], temperature=usual).gate
    own = [Encoded(answer.prompt_ids, answer.token_ids) for group in answered for answer in group]
    judge = RewardModel.load(material.base, directory)
    scores_N = judge.score_encoded([vote.encoded for vote in chosen]).double().numpy()
    own_NS = judge.score_encoded(own).double().numpy().reshape(len(chosen), -1)
    judge.close()
    return estimating.doubly_robust(votes, *cross_fitted(votes, scores_N, own_NS))
