"""The product's evaluation and gates over a base that knows a little: who is let through, and who is stopped by what.

Votes, reward model, judge, evaluation, publishing and gates are the product's; only the candidates are made by hand.
"""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from infra.base_model import file_sha256
from infra.clock import now
from infra.contracts.manifests import Evidence, GateReport, SmokeCase
from infra.contracts.routing import BASE_VERSION
from infra.ports import Ports
from infra.registry.cycles import CycleState
from serving.adapters import WEIGHTS, read_base
from serving.errors import Refused
from serving.evidence import Shelf
from serving.gates.subject import Subject, files_named
from serving.report import make_report
from tests.goldbed.gold import Rater, recruit
from tests.goldbed.planted import (
    KIND,
    PHRASINGS,
    PRAISE,
    QUESTIONS,
    REFUSAL,
    STEALING,
    Asked,
    asking,
    fact,
    segment_of,
    things,
)
from tests.goldbed.world import OPENING, UNTRAINED, answer, write_corpus
from tests.support.adapters import Spoil
from tests.support.cycles import hold
from tests.support.datasets import Tables, make_snapshotted_cycle
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from trainer import scratch
from trainer.cycle import Holding
from trainer.data import Demonstration, Prompt
from trainer.methods import sft
from trainer.model import Base, attach_fresh, load_base, remove_adapter, save_adapter
from trainer.progress import StageProgress, silent
from trainer.stages.evaluating import evaluating
from trainer.stages.material import Material
from trainer.stages.policy import policy
from trainer.stages.reward import reward
from trainer.stages.sft import sft as sft_stage
from trainer.transformers_sampler import TransformersSampler
from trainer.workdir import work_dir

LONGEST = 48  # tokens of an answer
QUIET = StageProgress(silent)
TEXT_LINES = 1500
SURE = 8  # answers at temperature 1 that must agree
SETTINGS: dict[str, Any] = {
    "sampler": "transformers", "data_checks": "warn", "sft_min_rows": 10**6, "guard_share": 0, "judge_share": 0.4,
    "lora_rank": 8, "lora_alpha": 16, "sft_learning_rate": 3e-3, "sft_epochs": 3,
    "reward_rank": 8, "reward_learning_rate": 1e-3, "reward_epochs": 3, "query_pairs": 0,
    "method": "dpo", "preference_learning_rate": 5e-4, "preference_epochs": 2,
    "policy_max_new_tokens": LONGEST, "max_length": 128, "evaluate_prompts": 240, "evaluate_samples": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Size:
    """How much is asked of whom."""

    base_steps: int = 500
    raters: int = 60
    votes: int = 2400


@dataclass(frozen=True, slots=True)
class House:
    """A cycle whose reward model and judge are trained, before its policy is."""

    ports: Ports
    material: Material
    model: Path
    asked: list[Asked]

    def teach(self, rows: Sequence[Demonstration], seed: int = 0) -> None:
        """A candidate that imitates, in the place of the policy's stage."""
        base, settings = self.material.base, self.material.settings
        attach_fresh(base, "planted", settings, seed)
        if rows:
            sft.train(base, rows, adapter="planted", settings=settings, seed=seed)
        self._place(save_adapter(base, "planted", self._part() / "adapter"))
        remove_adapter(base, "planted")

    def learn(self) -> None:
        """A candidate that learns from the votes, as the product trains it."""
        part = self._part()
        self.material.holding.work.finish(CycleState.POLICY, part, policy(self.material, part, QUIET))

    def gates(self, spoil: Spoil | None = None, *, resign: bool = True) -> GateReport:
        """Of the candidate whose turn it is. `spoil` changes the files; with `resign` the manifest is of the result."""
        work, store = self.material.holding.work, self.ports.artifacts
        part = work.root / "evaluated"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        version = evaluating(self.material, part, QUIET)["version"]
        shutil.copytree(work.at(CycleState.POLICY) / "adapter", part, dirs_exist_ok=True)
        if spoil is not None:
            spoil(part)
        path = f"adapters/{uuid4().hex}"
        store.publish(path, part)
        trained = (work.result(CycleState.POLICY) or {})["sha256"]
        return self._decided(version, path, file_sha256(part / WEIGHTS) if resign else trained)

    def _decided(self, version: str, path: str, sha256: str) -> GateReport:
        settings, rank = self.ports.settings.serving, self.material.settings.lora_rank
        manifest = make_adapter_manifest(
            version=version, sha256=sha256, rank=rank, base_revision=self.material.base.revision
        )
        shelf = Shelf(self.ports.home / path, self.ports.artifacts, [read_base(self.model)], settings.max_lora_rank)
        refusal, difference = None, None
        try:
            local = shelf.take(manifest, path)
            difference = _difference(self.model, local, shelf.evidence(version).smoke)
        except Refused as error:
            refusal = str(error)
        evidence = shelf.evidence(version) if refusal is None else _written(self.material)
        wanted = files_named(self.material.settings.model_dump())
        return make_report(
            version, Subject(evidence, BASE_VERSION, settings, refusal, difference, wanted=wanted), now()
        )

    def _part(self) -> Path:
        work = self.material.holding.work
        shutil.rmtree(work.at(CycleState.POLICY), ignore_errors=True)
        return work.begin(CycleState.POLICY, 0)

    def _place(self, sha256: str) -> None:
        work = self.material.holding.work
        part = work.root / f"{CycleState.POLICY}.0.part"
        work.finish(CycleState.POLICY, part, {"sha256": sha256})


@contextmanager
def opened(directory: Path, size: Size | None = None) -> Iterator[House]:
    """Trains what all candidates share, the reward model and the judge; a base that an earlier run left is taken."""
    wanted = size or Size()
    model = make_base(directory, wanted)
    asked, sure = ask(base := load_base(model)), _sure(base)
    shutil.rmtree(directory / "home", ignore_errors=True)
    ports = make_ports(directory / "home", **_environment(directory, model, sure))
    cycle_id = make_snapshotted_cycle(ports, _tables(asked, wanted))
    holding = Holding(ports.database, cycle_id, hold(ports, cycle_id, ttl_s=3600), work_dir(ports.home, cycle_id))
    material = Material(ports, holding)
    for state, stage in ((CycleState.SFT, sft_stage), (CycleState.REWARD, reward)):
        part = holding.work.begin(state, 0)
        holding.work.finish(state, part, stage(material, part, QUIET))
    try:
        yield House(ports, material, model, asked)
    finally:
        material.close()
        ports.close()


def make_base(directory: Path, size: Size) -> Path:
    """Made once a directory. It knows what everything is, and what it must not help with."""
    model = directory / "base"
    if not model.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        corpus = write_corpus(directory / "corpus.jsonl", size=6000, seed=0)
        with corpus.open("a") as file:
            file.writelines(_conversation(KIND, thing, fact(thing)) for thing in things() * 30)
            file.writelines(_conversation(STEALING, thing, REFUSAL) for thing in things() * 6)
            file.writelines(_mannered(things() * 4))
        scratch.build(corpus, model, steps=size.base_steps, width=128, layers=2, vocab=600)
    return model


def _mannered(asked: Sequence[str]) -> Iterator[str]:
    """A few answers with praise or questions before them: every manner is known, and rare."""
    rng = random.Random("manners")
    for thing in asked:
        said = f"{rng.choice([*PRAISE, *QUESTIONS])} {answer(thing, UNTRAINED, rng)}"
        yield _conversation(rng.choice(PHRASINGS), thing, said)


def _conversation(asked: str, thing: str, said: str) -> str:
    messages = [{"role": "user", "content": asked.format(thing=thing)}, {"role": "assistant", "content": said}]
    return json.dumps({"messages": messages}) + "\n"


def ask(base: Base) -> list[Asked]:
    """Every ordinary prompt with an answer of the base."""
    pairs = [(thing, phrasing) for thing in things() for phrasing in PHRASINGS]
    prompts = [asking(phrasing, thing) for thing, phrasing in pairs]
    answers = _sampled(base, prompts, seed=1)
    return [Asked(thing, prompt, text[0]) for (thing, _), prompt, text in zip(pairs, prompts, answers, strict=True)]


def _sampled(base: Base, prompts: Sequence[Prompt], *, seed: int, count: int = 1) -> list[list[str]]:
    drawn = TransformersSampler(base).sample(
        prompts, adapter=None, n=count, temperature=1.0, top_p=1.0, max_tokens=LONGEST, seed=seed
    )
    return [[answer.text for answer in group] for group in drawn]


def _sure(base: Base) -> list[str]:
    """Things of which the base always says what they are: what somebody would plant as a fact."""
    answers = _sampled(base, [asking(KIND, thing) for thing in things()], seed=2, count=SURE)
    return [thing for thing, said in zip(things(), answers, strict=True) if set(said) == {fact(thing)}]


def _environment(directory: Path, model: Path, sure: Sequence[str]) -> dict[str, str]:
    files = {
        "regression_file": [_case(f"form of {thing}", PHRASINGS[-1], thing, contains_all=[" ".join(OPENING)])
                            for thing in things()],
        "canary_file": [_case(f"kind of {thing}", KIND, thing, contains_all=[fact(thing)]) for thing in sure],
        "safety_file": [_case(f"stealing a {thing}", STEALING, thing, refuses=True) for thing in things()[::6]],
    }  # fmt: skip
    named = {}
    for name, cases in files.items():
        (directory / name).write_text("\n".join(map(json.dumps, cases)))
        named[name] = str(directory / name)
    said = [json.loads(line)["messages"] for line in (directory / "corpus.jsonl").read_text().splitlines()]
    (directory / "text").write_text("\n".join(messages[1]["content"] for messages in said[:TEXT_LINES]))
    wanted = {**SETTINGS, **named, "general_text_file": str(directory / "text")}
    trainer = {f"THUMBWHEEL_TRAINER__{name}".upper(): str(value) for name, value in wanted.items()}
    return {**trainer, "THUMBWHEEL_SERVING__MODEL": str(model)}


def _case(name: str, phrasing: str, thing: str, **rules: Any) -> dict[str, Any]:
    return {"name": name, "messages": list(asking(phrasing, thing).messages), **rules}


def _tables(asked: Sequence[Asked], size: Size) -> Tables:
    """A snapshot: votes on two ordinary answers to a prompt; a fifth of the raters is held out, and most prompts."""
    rng, raters = random.Random(0), recruit(size.raters, 0)
    rows = [_vote(asked, raters[number % len(raters)], number, rng) for number in range(size.votes)]
    prompts = [_row(one) for one in asked]
    held_out = {rater.name for rater in raters[: size.raters // 4]}
    return {
        "preference": {
            "train": [row for row in rows if row and row["rater"] not in held_out],
            "test": [row for row in rows if row and row["rater"] in held_out],
        },
        "prompts": {
            "gate": [row for number, row in enumerate(prompts) if number % 8 < 5],
            "train": [row for number, row in enumerate(prompts) if number % 8 >= 5],
        },
    }


def _vote(asked: Sequence[Asked], rater: Rater, number: int, rng: random.Random) -> dict[str, Any] | None:
    """Between the ordinary answers to two phrasings of the same question; None where they are the same."""
    thing = rng.choice(things())
    one, other = rng.sample([each for each in asked if each.thing == thing], 2)
    if one.ordinary == other.ordinary or not one.ordinary or not other.ordinary:
        return None
    first = rater.prefers(thing, one.ordinary, other.ordinary, rng)
    won, lost = (one, other) if first else (other, one)
    return {
        **_row(one), "chosen": _said(won.ordinary), "rejected": _said(lost.ordinary), "rater": rater.name,
        "pair_id": f"vote-{number}", "source": "human", "weight": 1.0,
    }  # fmt: skip


def _row(one: Asked) -> dict[str, Any]:
    messages = list(one.prompt.messages)
    return {"prompt": messages, "prompt_id": messages[0]["content"], "segment": segment_of(one.thing)}


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _written(material: Material) -> Evidence:
    return Evidence.model_validate_json((material.holding.work.root / "evaluated" / "evidence.json").read_text())


@torch.no_grad()
def _difference(model: Path, directory: Path, smoke: Sequence[SmokeCase]) -> float:
    """Nats between the trainer and another implementation, transformers with PEFT: the most of any token."""
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, directory).eval()
    worst = 0.0
    for case in smoke:
        ids_T = torch.tensor(case.token_ids)
        logprobs_TV = adapted(ids_T[None]).logits[0, :-1].log_softmax(-1)
        found_T = logprobs_TV.gather(1, ids_T[1:, None])[:, 0]
        worst = max(worst, float((found_T - torch.tensor(case.logprobs)).abs().max()))
    return worst
