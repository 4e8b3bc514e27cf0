"""Whether enough replicas have the base that a rollout leads to: those of the other one take none of its traffic."""

from infra.contracts.routing import ReplicaState, RoutingTable
from infra.database.tables import RolloutRow
from infra.registry import rollouts
from infra.registry.rollouts import ON_TRAFFIC


def shortage(table: RoutingTable, row: RolloutRow) -> str | None:
    """What an operator should know before the next step; counted as if every replica were as strong as another."""
    route = table.aliases.get(row.alias)
    ready = [replica for replica in table.replicas if replica.state is ReplicaState.READY]
    able = [replica for replica in ready if replica.has(row.version)]
    share = _next_share(row)
    if not able or route is None or able[0].base_revision == route.base_revision or share * len(ready) <= len(able):
        return None
    return (
        f"{len(able)} of {len(ready)} ready replicas have the base of {row.version}, and its next step gives it "
        f"{share:.0%} of the traffic: bring up more of them, or pause the rollout"
    )


def _next_share(row: RolloutRow) -> float:
    """1 past the last step."""
    following = row.step + 1 if row.state in ON_TRAFFIC else row.step
    steps = rollouts.steps_of(row)
    return steps[following].share if following < len(steps) else 1.0
