"""What a policy's loop needs of its guard: it shows each step's samples and keeps a copy of the best adapter."""

from collections.abc import Sequence
from typing import Any

import structlog
import torch
from torch import Tensor

from trainer.guard import Guard, Verdict
from trainer.loop import Enough
from trainer.methods.policy import PolicyContext
from trainer.model import adapter_parameters
from trainer.observation import Gain, Observation, gain_over_start
from trainer.on_policy import Drawer, Samples, settle_truncated
from trainer.probes import PROBES

log = structlog.get_logger()


class Watch:
    """Of one training. `stopped` says why it is to end, if it is; `warnings` has the latest of each kind."""

    def __init__(self, context: PolicyContext, drawer: Drawer) -> None:
        self._context, self._drawer = context, drawer
        self._guard = Guard(context.settings)
        self._seen: list[Observation] = []
        self._best: list[Tensor] = []
        self._starts: dict[str, float] = {}
        self.stopped = ""
        self.warnings: dict[str, str] = {}

    def look(self, samples: Samples, kl_S: Tensor) -> dict[str, float]:
        """Before the step's update: its figures for the history. Raises Enough, the reason being in `stopped` too."""
        seen = self._observation(samples, kl_S)
        verdict = self._show(seen)
        if verdict.best:
            self._best = [parameter.detach().clone() for parameter in self._parameters()]
        if verdict.stop:
            self.stopped = verdict.reason
            log.warning("policy_stopped", cause=verdict.stop.value, reason=verdict.reason)
            raise Enough(verdict.reason)
        return {**seen.metrics(), **self._guard.metrics()}

    def keep_best(self) -> None:
        """At the training's end: puts back the best adapter, unless what the last update made is better still."""
        if self._best and (self.stopped or not self._guard.still_gaining):
            for parameter, best in zip(self._parameters(), self._best, strict=True):
                parameter.data.copy_(best)

    def state_dict(self) -> dict[str, Any]:
        return {"best": list(self._best), "seen": [seen.metrics() for seen in self._seen], "starts": self._starts}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        for metrics in state["seen"]:
            self._show(Observation.read(metrics))
        self._starts = dict(state["starts"])
        self._best = [best.to(self._context.base.device) for best in state["best"]]

    def _show(self, seen: Observation) -> Verdict:
        verdict = self._guard.observe(len(self._seen), seen)
        self._seen.append(seen)
        for name in verdict.warnings.keys() - self.warnings.keys():
            log.warning("policy_drifts", step=len(self._seen) - 1, warning=verdict.warnings[name])
        self.warnings |= verdict.warnings
        return verdict

    def _observation(self, samples: Samples, kl_S: Tensor) -> Observation:
        rates = {name: sum(map(probe, samples.texts)) / len(samples.texts) for name, probe in PROBES.items()}
        return Observation(float(kl_S.mean()), samples.mean_length, rates, self._gain(samples))

    def _gain(self, samples: Samples) -> Gain | None:
        if self._context.held_out is None:
            return None
        if not self._starts:
            self._starts = self._start_scores()
        scores_PG = self._scores(samples).view(-1, self._context.settings.policy_samples)
        return gain_over_start(scores_PG.tolist(), [self._starts[key] for key in _prompts(samples, len(scores_PG))])

    def _start_scores(self) -> dict[str, float]:
        """Of each prompt that some step will ask. At the first step the policy is still the start."""
        count = self._context.settings.policy_guard_samples
        samples = self._drawer.start(self._drawer.asked, count)
        means_P = self._scores(samples).view(-1, count).mean(-1)
        return dict(zip(_prompts(samples, len(means_P)), means_P.tolist(), strict=True))

    def _scores(self, samples: Samples) -> Tensor:
        """An answer without its end is as far below the whole ones as in the reward that is trained on."""
        assert self._context.held_out is not None
        scores_S = self._context.held_out.score_encoded(samples.rows)
        return settle_truncated(scores_S, samples.truncated_S, "penalise")[0]

    def _parameters(self) -> Sequence[torch.nn.Parameter]:
        return adapter_parameters(self._context.base, self._context.adapter)


def _prompts(samples: Samples, count: int) -> list[str]:
    """What was asked, as a key that JSON takes too."""
    return [" ".join(map(str, row.prompt)) for row in samples.rows[:: len(samples.rows) // count]]
