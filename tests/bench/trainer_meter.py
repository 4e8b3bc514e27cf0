"""The one clock and the one measure of memory that both sides of the trainer benchmark are read with."""

import gc
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

TOKENISING = ("__call__", "apply_chat_template", "batch_decode")


@dataclass(frozen=True, slots=True)
class Measured:
    """`grown_mb` is the peak less what the loaded model took; `cpu_s` the process's own time, with no one else's."""

    seconds: float
    cpu_s: float
    loss: float
    peak_mb: float
    grown_mb: float


@dataclass(frozen=True, slots=True)
class Spent:
    """Two clocks at once."""

    seconds: float
    cpu_s: float

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds + other.seconds, self.cpu_s + other.cpu_s)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.seconds - other.seconds, self.cpu_s - other.cpu_s)


class Meter:
    """Time runs while it is on, except inside `aside`; memory is the peak from `begin` on."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._spent = self._aside = Spent(0.0, 0.0)
        self._depth = 0
        self._loaded_mb = 0.0

    def begin(self) -> None:
        """The model is loaded: only now the peak is looked for."""
        gc.collect()
        if self._device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the peak of resident memory begins anew: proc(5)
        self._loaded_mb = self._peak_mb()

    @contextmanager
    def on(self) -> Iterator[None]:
        began, aside = self._now(), self._aside
        yield
        self._spent += self._now() - began - (self._aside - aside)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is not training: sampling, and tokenisation."""
        self._depth += 1
        began = self._now()
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._aside += self._now() - began

    def leave_out(self, seconds: float) -> None:
        """The same, where it was timed elsewhere."""
        self._spent -= Spent(seconds, seconds)

    def add(self, other: "Meter") -> None:
        """Another one's time too."""
        self._spent += other._spent

    def leave_out_tokenising(self, tokenizer: Any) -> None:
        """From now on this tokenizer's own time does not count."""
        kind = type(tokenizer)
        timed = {name: self._left_out(getattr(kind, name)) for name in TOKENISING}
        tokenizer.__class__ = type(kind.__name__, (kind,), timed)

    def read(self, loss: float) -> dict[str, float]:
        peak = self._peak_mb()
        return asdict(Measured(self._spent.seconds, self._spent.cpu_s, loss, peak, peak - self._loaded_mb))

    def _left_out(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **named: Any) -> Any:
            with self.aside():
                return method(*arguments, **named)

        return timed

    def _now(self) -> "Spent":
        if self._device == "cuda":
            torch.cuda.synchronize()
        return Spent(time.perf_counter(), time.process_time())

    def _peak_mb(self) -> float:
        if self._device == "cuda":
            return float(torch.cuda.max_memory_allocated()) / 1e6
        (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        return int(found) * 1024 / 1e6


def warm(model: Any) -> None:
    """A short row forward and back, and an optimizer's step: what loads late is there before anything is timed."""
    ids = torch.arange(64, device=model.device)[None]
    states = model.get_input_embeddings()(ids).detach().requires_grad_()
    model(inputs_embeds=states).logits.float().mean().backward()
    torch.optim.AdamW([states], lr=0.0, fused=True).step()
