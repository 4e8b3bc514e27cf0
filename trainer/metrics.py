"""What Prometheus sees of the worker. A training's own figures are in the registry and its report."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge

OUTCOMES = ("gating", "failed", "cancelled", "stopped", "crashed", "lost", "held", "busy")


class Metrics:
    """Made once by the composition root."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.runs = Counter(
            "thumbwheel_trainer_runs_total", "Turns at a cycle, by how each ended.", ["outcome"], registry=registry
        )
        self.training = Gauge("thumbwheel_trainer_training", "Whether a cycle is being trained.", registry=registry)
        for outcome in OUTCOMES:
            self.runs.labels(outcome)  # zero is news too: a rate needs a first value
