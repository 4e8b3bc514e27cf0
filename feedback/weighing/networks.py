"""Raters who agree with each other always, and far beyond what people do: to be capped as one.

Honest people err independently; accounts of one hand don't. Nothing is held against such a group but its number: two
friends with one taste count as two people do who don't know each other, as long as they stay under the cap.
"""

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from feedback.weighing.opinions import Floats, Ints, Opinions

ALONE = -1
CROWD = 50  # of a question with more raters than this only so many are compared with each other
CHANCE = 0.01  # of calling any pair a network where all are honest and alike


def find_networks(opinions: Opinions, *, overlap: int) -> Ints:
    """A number for each rater's network, ALONE where it has none. `overlap` is the fewest questions two must share.

    Two are linked when they agreed on all of them, and that is too much for the agreement of an ordinary rater with
    others (binomial tail, divided by the number of pairs looked at).
    """
    agreed, shared = _agreement(opinions)
    usual = _usual_agreement(agreed, shared)
    pairs = coo_array(shared)
    ahead = (pairs.row < pairs.col) & (pairs.data >= overlap)
    one_E, other_E, shared_E = pairs.row[ahead], pairs.col[ahead], pairs.data[ahead]
    always_E = np.asarray(agreed[one_E, other_E]).ravel() == shared_E
    tail_E = usual**shared_E  # all of n; scipy.stats would say the same and take a second of each start to import
    linked = always_E & (tail_E < CHANCE / max(1, len(shared_E)))
    return _numbered(one_E[linked], other_E[linked], opinions.raters)


def _agreement(opinions: Opinions) -> tuple[csr_array, csr_array]:
    """For each two raters: questions they agreed on, and questions both answered."""
    few = opinions.once()
    few = few.where(_rank_in_item(few.item_N) < CROWD)
    shape, at = (opinions.raters, opinions.items), (few.rater_N, few.item_N)
    yes, no = (csr_array((np.asarray(said_N, dtype=np.int64), at), shape=shape) for said_N in (few.yes_N, ~few.yes_N))
    both = yes + no
    return (yes @ yes.T + no @ no.T).tocsr(), (both @ both.T).tocsr()


def _rank_in_item(item_N: Ints) -> Ints:
    """0 for a question's first answer, 1 for its second, and so on."""
    order = np.argsort(item_N, kind="stable")
    ordered = item_N[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, dtype=np.int64)
    counts = np.diff(np.r_[starts, len(ordered)])
    rank = np.empty(len(item_N), dtype=np.int64)
    rank[order] = np.arange(len(item_N)) - np.repeat(starts, counts)
    return rank


def _usual_agreement(agreed: csr_array, shared: csr_array) -> float:
    """The middle rater's share of agreement with all others; a half where nobody shares a question."""
    agreed_R = np.asarray(agreed.sum(axis=1)).ravel() - agreed.diagonal()
    shared_R = np.asarray(shared.sum(axis=1)).ravel() - shared.diagonal()
    some = shared_R > 0
    shares: Floats = agreed_R[some] / shared_R[some]
    return float(np.median(shares)) if some.any() else 0.5


def _numbered(one_E: Ints, other_E: Ints, raters: int) -> Ints:
    links = coo_array((np.ones(len(one_E), dtype=np.int8), (one_E, other_E)), shape=(raters, raters))
    _, label_R = connected_components(links, directed=False)
    size_R = np.bincount(label_R, minlength=raters)[label_R]
    return np.where(size_R > 1, label_R, ALONE)
