"""Rewards of whole conversations: each turn has its own feedback, and its part of what was said about all of it.

Feedback that comes when a conversation is over is spread backwards: turn t of T gets gamma^(T-t), normalised to sum 1.
The end weighs most, since what was said of a conversation was said having read the end; gamma = 1 is an even spread.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from trainer.data import Message, Unpaired
from trainer.rewarding import Reward

Turn = tuple[Sequence[Message], Message | str]  # the conversation so far, and the answer


def shares(turns: int, discount: float) -> list[float]:
    """Each turn's part of a conversation's feedback, first turn first; they sum to 1."""
    weights_T = discount ** np.arange(turns - 1, -1, -1, dtype=np.float64)
    return (weights_T / weights_T.sum()).tolist() if turns else []


def credited(rows: Iterable[Unpaired], discount: float) -> list[Unpaired]:
    """A conversation's verdict comes as a row for each of its turns, whose weights become parts of that one verdict's.

    Rows about one answer stay as they are. The part of a turn whose row is missing is lost, not given to other turns.
    """
    return [
        replace(row, weight=row.weight * shares(row.turns, discount)[row.turn - 1]) if row.turns else row
        for row in rows
    ]


def turns_of(messages: Sequence[Message]) -> list[Turn]:
    """Every answer of the assistant's with the conversation before it."""
    places = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    return [(messages[:at], messages[at]) for at in places if at]


def conversation_scores(model: Reward, conversations: Sequence[Sequence[Turn]], discount: float) -> list[float]:
    """Each one's turns' scores at their shares; 0 of a conversation without an answer. One turn scores as it is."""
    found = iter(model.score([turn for turns in conversations for turn in turns]).tolist())
    return [sum(share * next(found) for share in shares(len(turns), discount)) for turns in conversations]
