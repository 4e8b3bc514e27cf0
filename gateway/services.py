"""What the composition root has opened, for the handlers."""

from dataclasses import dataclass

from starlette.requests import Request

from gateway.auth import Auth
from gateway.chat import Desk
from gateway.metrics import Metrics
from gateway.routing import Router
from gateway.votes import BallotBox
from gateway.watch import Watch
from infra.artifacts import ArtifactStore
from infra.contracts.rollouts import Step
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.identity import Identity
from infra.settings import GatewaySettings
from infra.shipping import Shipper
from infra.spool import Spool


@dataclass(frozen=True, slots=True)
class Services:
    """One per process, open between the start and the end of the app's lifespan."""

    settings: GatewaySettings
    artifacts: ArtifactStore
    auth: Auth
    ballots: BallotBox
    database: Database
    desk: Desk
    identity: Identity
    metrics: Metrics
    rollout_steps: tuple[Step, ...]
    router: Router
    sealer: Sealer
    shipper: Shipper
    spool: Spool
    watch: Watch


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found
