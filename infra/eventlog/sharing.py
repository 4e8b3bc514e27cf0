"""How the members of a consumer group share partitions: evenly in each topic, and moving as few as that allows.

kafka-python's own cooperative assignor counts the partitions of all topics together. Where one topic is busy and
another one is hardly used, as answers and erasures are, one member could be given most of the work.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment
from kafka.structs import TopicPartition


class EvenAssignor(CooperativeStickyAssignor):  # type: ignore[misc]  # kafka-python ships no types
    """A partition that moves is given away in a second round, once whoever has it let go (KIP-429)."""

    name = "thumbwheel-even"

    def assign(self, cluster: Any, members: Sequence[Any]) -> dict[str, ConsumerProtocolAssignment]:
        claims: dict[TopicPartition, set[str]] = defaultdict(set)
        for member in members:
            for at in self.parse_member_metadata(member.metadata).partitions:
                claims[at].add(member.member_id)
        given: dict[str, dict[str, list[int]]] = {member.member_id: defaultdict(list) for member in members}
        for topic in sorted({topic for member in members for topic in member.metadata.topics}):
            partitions = sorted(cluster.partitions_for_topic(topic) or ())
            held = {
                member.member_id: {at for at in partitions if member.member_id in claims[TopicPartition(topic, at)]}
                for member in members
                if topic in member.metadata.topics
            }
            for at, owner in share(partitions, held).items():
                if claims[TopicPartition(topic, at)] <= {owner}:
                    given[owner][topic].append(at)
        return {
            member_id: ConsumerProtocolAssignment(self.version, sorted(topics.items()), b"")
            for member_id, topics in given.items()
        }

    def forget(self) -> None:
        """What this member claims to have: nothing any more."""
        self.member_assignment = None


def share(partitions: Sequence[int], held: Mapping[str, AbstractSet[int]]) -> dict[int, str]:
    """Whose each partition is to be; no member has two more than another one. `held` may name one twice."""
    few, more = divmod(len(partitions), len(held))
    members = sorted(held, key=lambda member: (-len(held[member]), member))
    room = {member: few + (rank < more) for rank, member in enumerate(members)}
    owners: dict[int, str] = {}
    for at in partitions:
        if holder := next((member for member in members if at in held[member] and room[member]), None):
            owners[at] = holder
            room[holder] -= 1
    for at in partitions:
        if at not in owners:
            owners[at] = taker = max(members, key=lambda member: room[member])
            room[taker] -= 1
    return owners
