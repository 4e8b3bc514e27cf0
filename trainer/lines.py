"""How rows are laid out for a forward: answers behind one copy of their prompt, several such trees on one line.

A line's tokens see only their own tree's prompt and their own answer, so nothing leaks from one row into another.
Sharing a prompt saves its copies, packing saves padding; both cost attention over the whole line, of which torch skips
half where a line holds a single answer. `Cost` weighs them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

Cost = Callable[[int, bool], float]  # of a line: its tokens, and whether it needs a mask


@dataclass(frozen=True, slots=True)
class Encoded:
    """One answer to one prompt; `answer` ends with the end token unless it was cut."""

    prompt: Sequence[int]
    answer: Sequence[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class Tree:
    """A prompt and the answers behind it, which are indices of the rows that were planned."""

    prompt: Sequence[int]
    answers: list[int]
    length: int


@dataclass(frozen=True, slots=True)
class Line:
    trees: list[Tree]

    @property
    def length(self) -> int:
        return sum(tree.length for tree in self.trees)

    @property
    def plain(self) -> bool:
        """Whether causal attention is all that it needs."""
        return len(self.trees) == 1 and len(self.trees[0].answers) == 1


def cost_of(hidden: int) -> Cost:
    """In tokens' worth of matrix products: 24 h^2 a token and layer, against 4 h for each pair that attends."""

    def cost(tokens: int, masked: bool) -> float:
        return tokens + tokens**2 / ((6 if masked else 12) * hidden)

    return cost


def plan(rows: Sequence[Encoded], cost: Cost | None) -> list[Line]:
    """Every row once. Without a cost nothing is shared or packed."""
    trees = _trees(rows, cost)
    alone = [Line([tree]) for tree in trees]
    if cost is None or len(trees) == 1:
        return alone
    packed = _packed(trees)
    return min(alone, packed, key=lambda lines: _cost(lines, cost))


def in_batches(rows: Sequence[Encoded], tokens: int, cost: Cost | None) -> Iterator[list[int]]:
    """Indices of rows whose trees are of like length, at most `tokens` with padding; every row once."""
    trees = sorted(_trees(rows, cost, tokens), key=lambda tree: tree.length)
    for picked in _filled([[tree.length] for tree in trees], tokens):
        yield [index for tree in picked for index in trees[tree].answers]


def in_parts(units: Sequence[Sequence[Encoded]], tokens: int, cost: Cost | None) -> Iterator[list[int]]:
    """The same of units whose rows must be in one forward: the two sides of a choice, say."""
    lengths = [[tree.length for tree in _trees(rows, cost)] for rows in units]
    order = sorted(range(len(units)), key=lambda index: max(lengths[index]))
    for picked in _filled([lengths[index] for index in order], tokens):
        yield [order[index] for index in picked]


def _filled(lengths: Sequence[Sequence[int]], tokens: int) -> Iterator[list[int]]:
    """Runs of units; a unit that is too large by itself has a run of its own."""
    picked: list[int] = []
    lines = 0
    for index, unit in enumerate(lengths):
        if picked and max(unit) * (lines + len(unit)) > tokens:
            yield picked
            picked, lines = [], 0
        picked.append(index)
        lines += len(unit)
    if picked:
        yield picked


def _trees(rows: Sequence[Encoded], cost: Cost | None, most: float = inf) -> list[Tree]:
    if cost is None:
        return [_tree(rows, [index]) for index in range(len(rows))]
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault(tuple(row.prompt), []).append(index)
    return [tree for group in groups.values() for tree in _cheapest(rows, group, cost, most)]


def _cheapest(rows: Sequence[Encoded], group: list[int], cost: Cost, most: float) -> list[Tree]:
    """All answers on one tree, on two, on four, ..., on one each; shared ones of at most so many tokens."""
    if len(group) == 1:
        return [_tree(rows, group)]
    cuts = ([_tree(rows, group[at : at + size]) for at in range(0, len(group), size)] for size in _sizes(len(group)))
    return min(cuts, key=lambda trees: sum(_cost_of_tree(tree, cost, most) for tree in trees))


def _cost_of_tree(tree: Tree, cost: Cost, most: float) -> float:
    shared = len(tree.answers) > 1
    return inf if shared and tree.length > most else cost(tree.length, shared)


def _sizes(count: int) -> Iterator[int]:
    while count > 1:
        yield count
        count = -(-count // 2)
    yield 1


def _packed(trees: Sequence[Tree]) -> list[Line]:
    """Lines no longer than the longest tree: first fit, longest first."""
    order = sorted(trees, key=lambda tree: -tree.length)
    lines: list[list[Tree]] = []
    room: list[int] = []
    for tree in order:
        fitting = next((number for number, left in enumerate(room) if left >= tree.length), None)
        if fitting is None:
            fitting = len(lines)
            lines.append([])
            room.append(order[0].length)
        lines[fitting].append(tree)
        room[fitting] -= tree.length
    return [Line(line) for line in lines]


def _cost(lines: Sequence[Line], cost: Cost) -> float:
    """With padding; one line that needs a mask makes all of a batch have one."""
    return len(lines) * cost(max(line.length for line in lines), not all(line.plain for line in lines))


def _tree(rows: Sequence[Encoded], answers: list[int]) -> Tree:
    prompt = rows[answers[0]].prompt
    return Tree(prompt, answers, len(prompt) + sum(len(rows[index].answer) for index in answers))
