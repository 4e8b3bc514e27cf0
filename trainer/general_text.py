"""How well a policy still continues text that nobody voted on: what it forgets shows here first."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from infra.contracts.manifests import GeneralText
from infra.settings import SettingsError
from trainer.divergence import sequence_logprobs
from trainer.intervals import mean_interval
from trainer.model import Base

CHUNK, MOST_CHUNKS = 128, 64  # tokens; a second or two on a CPU for a tiny base
MOST_CHARACTERS = 1 << 20


def read_text(file: str) -> str:
    """Empty for an empty name; raises SettingsError where there is no such text."""
    if not file:
        return ""
    try:
        with Path(file).open() as opened:
            return opened.read(MOST_CHARACTERS)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"trainer.general_text_file: {file} can't be read: {error}") from None


def chunks(tokenizer: PreTrainedTokenizerBase, text: str) -> list[list[int]]:
    """Whole ones of CHUNK tokens, spread evenly over the text."""
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    whole = [ids[start : start + CHUNK] for start in range(0, len(ids) - CHUNK + 1, CHUNK)]
    count = min(len(whole), MOST_CHUNKS)
    return [whole[place * len(whole) // count] for place in range(count)]


def compare(base: Base, pieces: Sequence[Sequence[int]], candidate: str | None, champion: str | None) -> GeneralText:
    """Nats per token of both adapters (None: the base), the difference paired by piece."""
    ours, theirs = ([_nll(base, piece, name) for piece in pieces] for name in (candidate, champion))
    rise = mean_interval([mine - other for mine, other in zip(ours, theirs, strict=True)])
    return GeneralText(rise=rise, candidate=sum(ours) / len(ours), champion=sum(theirs) / len(theirs))


def _nll(base: Base, piece: Sequence[int], adapter: str | None) -> float:
    logprobs = sequence_logprobs(base, piece, adapter)
    return -sum(logprobs) / len(logprobs)
