"""What could be asked of people: every two different answers that some versions gave to one prompt."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from infra.contracts.queries import QueryAnswer
from trainer.data import Prompt
from trainer.lines import Encoded
from trainer.queries import Candidate, Floats
from trainer.sampling import Sampled


@dataclass(frozen=True)
class Pool:
    """`rows` are all answers, for a reward model to score; `sides_Q2` the places in them of each candidate's two."""

    candidates: Sequence[Candidate]
    rows: Sequence[Encoded]
    sides_Q2: NDArray[np.int64]

    def margins(self, scores_RM: Floats) -> Floats:
        """[Q, M]: by how much each member prefers a candidate's first answer, from its scores of the rows."""
        return np.asarray(scores_RM[self.sides_Q2[:, 0]] - scores_RM[self.sides_Q2[:, 1]], dtype=np.float64)


def pool(prompts: Sequence[Prompt], answers: Mapping[str, Sequence[Sequence[Sampled]]]) -> Pool:
    """`answers[version][prompt][sample]`. An answer that was cut is left out: it would lose for that."""
    candidates, rows, sides = list[Candidate](), list[Encoded](), list[tuple[int, int]]()
    for at, prompt in enumerate(prompts):
        given = [(version, one) for version, groups in answers.items() for one in groups[at] if not one.truncated]
        first = len(rows)
        rows += [Encoded(one.prompt_ids, one.token_ids) for _, one in given]
        for a, b in combinations(range(len(given)), 2):
            one, other = (QueryAnswer(version=given[i][0], content=given[i][1].text) for i in (a, b))
            if one.content != other.content:
                candidates.append(Candidate(prompt, one, other))
                sides.append((first + a, first + b))
    return Pool(candidates, rows, np.array(sides, dtype=np.int64).reshape(-1, 2))
