"""Candidate and champion answer the same prompts, each under its own name wherever the samples come from."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.cases import Case
from infra.contracts.routing import is_base
from trainer.data import Prompt
from trainer.sampling import Sampled
from trainer.stages.material import Material
from trainer.world import Words, words


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two. `files` None is the base with adapters off."""

    role: str
    version: str
    files: Path | None

    @property
    def adapter(self) -> str | None:
        """Its name on the base in memory."""
        return None if self.files is None else self.role


@dataclass(frozen=True, slots=True)
class Answers:
    """`gate[prompt][sample]` at temperature 1 or as asked; `checks[case][answer]` as the regression settings ask."""

    gate: list[list[Sampled]]
    checks: list[list[Sampled]]


ANSWERS: Words[list[Answers]] = words(list[Answers])


def champion_side(material: Material) -> Side:
    version = material.champion()
    return Side("champion", version, None if is_base(version) else material.adapter_files(version))


def ask(
    material: Material, side: Side, prompts: Sequence[Prompt], cases: Sequence[Case], *, temperature: float = 1.0
) -> Answers:
    """Of several processes all have the same answers: those that the engine gave the first one, once.

    From the model in memory each draws them, since a sharded base needs every process in every forward.
    """
    if material.replicas:
        return material.world.led(lambda: [_asked(material, side, prompts, cases, temperature)], ANSWERS)[0]
    return material.world.told([_asked(material, side, prompts, cases, temperature)], ANSWERS)[0]


def _asked(
    material: Material, side: Side, prompts: Sequence[Prompt], cases: Sequence[Case], temperature: float
) -> Answers:
    """Few big requests: an engine is good at many samples at once."""
    settings = material.settings
    with _voice(material, side) as name:
        gate = material.sampler.sample(
            prompts,
            adapter=name,
            n=settings.evaluate_samples,
            temperature=temperature,
            top_p=1.0,
            max_tokens=settings.policy_max_new_tokens,
            seed=settings.seed,
        )
        checks = material.sampler.sample(
            [Prompt(case.messages, case.tools or None) for case in cases],
            adapter=name,
            n=settings.regression_samples,
            temperature=0.0 if settings.regression_samples == 1 else 1.0,
            top_p=1.0,
            max_tokens=settings.policy_max_new_tokens,
            seed=settings.seed,
        )
    return Answers(gate, checks)


@contextmanager
def _voice(material: Material, side: Side) -> Iterator[str | None]:
    """The name under which the sampler knows this side; what serves already isn't loaded twice."""
    if side.files is None:
        yield None
    elif material.replicas and all(side.version in replica.versions for replica in material.replicas):
        yield side.version
    else:
        name = f"{material.samples_name}_{side.role}"
        material.sampler.publish(name, side.files)
        try:
            yield name
        finally:
            material.sampler.retire(name)
