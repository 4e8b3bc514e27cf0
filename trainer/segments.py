"""The same measurement segment by segment, so that a gain for most can't hide what it costs a few."""

from collections.abc import Callable, Sequence

from infra.contracts.manifests import Interval, SegmentResult

POOL, UNNAMED = "(small)", "(none)"
Measure = Callable[[Sequence[int]], Interval | None]


def by_segment(
    segments: Sequence[str], units: Sequence[str], measure: Measure, *, least: int
) -> dict[str, SegmentResult]:
    """`measure` of the rows of each segment, and of all rows together whose segments have too few units.

    `segments[i]` and `units[i]` are of row i; a unit is what is independent: a prompt, or a rater. Fewer than `least`
    of them are not enough to ask anything of. Empty where no row names a segment.
    """
    if not any(segments):
        return {}
    rows = _grouped(segments)
    enough = {name: len({units[row] for row in found}) >= least for name, found in rows.items()}
    results = {name: SegmentResult(interval=measure(found), enough=enough[name]) for name, found in rows.items()}
    small = [row for name, found in rows.items() if not enough[name] for row in found]
    if sum(not many for many in enough.values()) > 1:
        many = len({units[row] for row in small}) >= least
        results[POOL] = SegmentResult(interval=measure(small), enough=many)
    return results


def _grouped(segments: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, name in enumerate(segments):
        found.setdefault(name or UNNAMED, []).append(row)
    return dict(sorted(found.items()))
