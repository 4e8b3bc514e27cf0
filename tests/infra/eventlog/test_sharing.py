"""Who gets which partitions when members come and go."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment, ConsumerProtocolSubscription

from infra.eventlog.sharing import EvenAssignor, share

TOPICS = {"answers": 8, "votes": 8, "erasures": 3}
CHANGES = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=12)
Holding = dict[str, set[tuple[str, int]]]


@dataclass
class Joining:
    member_id: str
    metadata: ConsumerProtocolSubscription


@dataclass
class Cluster:
    partitions: dict[str, int]

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.partitions[topic]))


def round_of(holding: Holding, topics: Sequence[str] = tuple(TOPICS)) -> Holding:
    """One rebalance: everybody says what they have, and learns what they are to have."""
    claimed = ConsumerProtocolSubscription.TopicPartition
    members = [
        Joining(
            member,
            ConsumerProtocolSubscription(
                version=1,
                topics=list(topics),
                user_data=b"",
                owned_partitions=[claimed(topic=topic, partitions=[at]) for topic, at in sorted(owned)],
            ),
        )
        for member, owned in holding.items()
    ]
    return {
        member: places(assignment) for member, assignment in EvenAssignor().assign(Cluster(TOPICS), members).items()
    }


def places(assignment: ConsumerProtocolAssignment) -> set[tuple[str, int]]:
    return {(at.topic, at.partition) for at in assignment.partitions()}


def settled(holding: Holding) -> Holding:
    """A member that had to let go joins again at once; nothing is anybody's twice on the way."""
    while True:
        after = round_of(holding)
        everything = [place for places in after.values() for place in places]
        assert len(everything) == len(set(everything))
        for member, owned in after.items():
            assert not any(owned & had for other, had in holding.items() if other != member)
        if not any(had - after[member] for member, had in holding.items()):
            return after
        holding = after


@given(CHANGES)
def test_members_come_and_go_and_everything_is_shared_evenly_in_each_topic(changes: list[tuple[bool, int]]) -> None:
    holding: Holding = {"member-0": set()}
    for comes, number in changes:
        name = f"member-{number}"
        if comes:
            holding.setdefault(name, set())
        elif len(holding) > 1:
            holding.pop(name, None)
        holding = settled(holding)
        counts = Counter((member, topic) for member, owned in holding.items() for topic, _ in owned)
        for topic, partitions in TOPICS.items():
            shares = [counts[member, topic] for member in holding]
            assert sum(shares) == partitions
            assert max(shares) - min(shares) <= 1


def test_one_that_joins_takes_its_part_and_nothing_else_moves() -> None:
    before = settled({"a": set(), "b": set()})
    after = settled({**before, "c": set()})
    assert all(after[member] <= before[member] for member in "ab")
    assert settled(after) == after


def test_members_of_other_topics_get_none_of_these() -> None:
    assert round_of({"a": set()}, topics=["votes"]) == {"a": {("votes", at) for at in range(8)}}


def test_what_two_claim_is_nobodys_until_both_let_go() -> None:
    everything = {(topic, at) for topic, count in TOPICS.items() for at in range(count)}
    after = round_of({"expelled": everything, "successor": everything})
    assert after == {"expelled": set(), "successor": set()}
    assert sum(len(owned) for owned in settled(after).values()) == len(everything)


def test_with_more_members_than_partitions_each_has_one_at_most() -> None:
    assert sorted(Counter(share([0, 1], {"a": set(), "b": {1}, "c": set()}).values()).values()) == [1, 1]
    assert share([0, 1], {"a": set(), "b": {1}, "c": set()})[1] == "b"
