"""What Prometheus sees of the controller."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Made once by the composition root."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.revision = Gauge(
            "thumbwheel_serving_routing_revision", "Revision of the routing table.", registry=registry
        )
        self.ready = Gauge("thumbwheel_serving_replicas_ready", "Replicas that may answer users.", registry=registry)
        self.tick = Histogram("thumbwheel_serving_reconcile_seconds", "One look of the controller.", registry=registry)
        self.prepared = Histogram(
            "thumbwheel_serving_prepare_seconds", "Fetch, validate, load and smoke of one version.", registry=registry
        )
        self.difference = Gauge(
            "thumbwheel_serving_smoke_difference_nats", "Engine against trainer, last smoke.", registry=registry
        )
        self.refused = Counter("thumbwheel_serving_adapters_refused", "Adapters refused or failed.", registry=registry)
        self.failed = Counter(
            "thumbwheel_serving_jobs_failed", "Loads and unloads that will be tried again.", registry=registry
        )
        self.look = Histogram("thumbwheel_serving_look_seconds", "One look at a rollout's evidence.", registry=registry)
        self.moves = Counter(
            "thumbwheel_serving_rollout_moves", "Rollouts, by new state.", ["state"], registry=registry
        )
        self.gates = Counter("thumbwheel_serving_gates", "Gates decided.", ["gate", "verdict"], registry=registry)
