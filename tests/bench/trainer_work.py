"""What the trainer benchmark has both sides do: the cases, how large each is, and the files that they share."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

METHODS = ("sft", "reward", "dpo", "kto", "grpo", "rloo", "ppo")
PAIRED = frozenset({"reward", "dpo"})
SAMPLING = frozenset({"grpo", "rloo", "ppo"})
MIXES = ("uniform", "long")

RANK, ALPHA = 16, 32
RATE = 1e-5  # so small that a pass's mean loss is that of the rows, in whatever order they come
BETA, POLICY_BETA, CLIP = 0.1, 0.04, 0.2
EPOCHS = 2  # updates on each step's samples: at the first one RLOO's loss is zero by construction
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama with heads of 64 and tied embeddings, as trainer/scratch.py builds them."""

    width: int
    layers: int
    vocab: int


SIZES = {
    "tiny": Size(64, 2, 512),  # for the benchmark's own test
    "4m": Size(256, 4, 4096),  # the demo's
    "100m": Size(768, 12, 32_000),
}


@dataclass(frozen=True, slots=True)
class Work:
    """One case. `batch` is what one step takes: rows, pairs, or prompts of `samples` answers each.

    `micro` are the sequences of one forward of the peer where all of a step's samples at once are too many. `scale`
    shortens the long mix for machines that can't take it whole.
    """

    method: str
    size: str
    mix: str
    device: str
    threads: int
    steps: int
    batch: int
    samples: int
    micro: int
    scale: float

    @property
    def key(self) -> str:
        return f"{self.method}-{self.size}" + ("-long" if self.mix == "long" else "")

    @property
    def dtype(self) -> str:
        return "bfloat16" if self.device == "cuda" else "float32"

    @property
    def passes(self) -> int:
        """How often each row's tokens are trained on."""
        return EPOCHS if self.method in SAMPLING else 1


def make_work(method: str, size: str, mix: str, *, device: str, threads: int, steps: int | None) -> Work:
    """Batches are those of our defaults on a GPU, and less where a CPU would take hours; short rows get more steps."""
    small = device == "cpu"
    usual = (16 if not small else 8 if size != "100m" else 2) * (3 if mix == "uniform" else 1)
    pairs, prompts = (8, 4 if size != "100m" else 2) if small else (16, 16)
    batch = prompts if method in SAMPLING else pairs if method in PAIRED else 16
    return Work(
        method=method,
        size=size,
        mix=mix,
        device=device,
        threads=threads,
        steps=steps or usual,
        batch=batch,
        samples=8,
        micro=8 if small else 32,
        scale=0.4 if small else 1.0,
    )


@dataclass(frozen=True, slots=True)
class Place:
    """A case's directory, and beside it the model of its size, which all methods share."""

    root: Path
    key: str

    @property
    def directory(self) -> Path:
        return self.root / self.key

    @property
    def work(self) -> Work:
        return Work(**json.loads((self.directory / "work.json").read_text()))

    @property
    def model(self) -> Path:
        return self.root / f"model-{self.work.size}"

    @property
    def adapter(self) -> Path:
        """The policy that both sides begin with."""
        return self.root / f"adapter-{self.work.size}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """In an order in which each step's rows come together."""
        return list(json.loads((self.directory / "rows.json").read_text()))

    @property
    def order(self) -> Path:
        """In which our side asked for the prompts."""
        return self.directory / "order.json"

    def write(self, work: Work) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "work.json").write_text(json.dumps(asdict(work)))

    def write_rows(self, rows: list[dict[str, Any]]) -> None:
        (self.directory / "rows.json").write_text(json.dumps(rows))
