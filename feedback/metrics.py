"""What the consumer tells Prometheus."""

from dataclasses import dataclass, field

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from feedback.rate import Rate


@dataclass(frozen=True)
class Metrics:
    """One set per process; tests bring a registry of their own."""

    registry: CollectorRegistry = field(default=REGISTRY)
    events: Counter = field(init=False)
    dead_letters: Counter = field(init=False)
    throughput: Rate = field(default_factory=Rate)
    dead_letters_open: Gauge = field(init=False)
    rate: Gauge = field(init=False)
    lag: Gauge = field(init=False)
    votes: Gauge = field(init=False)
    oldest_unjoined: Gauge = field(init=False)
    batch_seconds: Histogram = field(init=False)
    snapshots: Counter = field(init=False)
    shadow_batches: Counter = field(init=False)

    def __post_init__(self) -> None:
        made = {
            "events": Counter(
                "thumbwheel_feedback_events_total", "Events consumed, by what became of them.",
                ["outcome"], registry=self.registry,
            ),
            "dead_letters": Counter(
                "thumbwheel_feedback_dead_letters_total", "Payloads that could not be read.", ["topic"],
                registry=self.registry,
            ),
            "dead_letters_open": Gauge(
                "thumbwheel_feedback_dead_letters_open", "Dead letters that nobody has replayed or discarded.",
                registry=self.registry,
            ),
            "rate": Gauge(
                "thumbwheel_feedback_events_per_second", "Events handled in the last half minute, per second.",
                registry=self.registry,
            ),
            "lag": Gauge(
                "thumbwheel_feedback_lag_events", "Events on the log that are not in the database yet.",
                registry=self.registry,
            ),
            "votes": Gauge(
                "thumbwheel_feedback_votes", "Votes in the database; one that was changed or retracted counts once.",
                registry=self.registry,
            ),
            "oldest_unjoined": Gauge(
                "thumbwheel_feedback_oldest_unjoined_seconds", "Age of the oldest vote that waits for its answer.",
                registry=self.registry,
            ),
            "batch_seconds": Histogram(
                "thumbwheel_feedback_batch_seconds", "Time from a batch's poll to its committed offset.",
                registry=self.registry,
            ),
            "snapshots": Counter(
                "thumbwheel_feedback_snapshots_total", "Datasets built, by outcome.", ["outcome"],
                registry=self.registry,
            ),
            "shadow_batches": Counter(
                "thumbwheel_feedback_shadow_batches_total", "Batches of mirrored answers put before a judge.",
                ["outcome"], registry=self.registry,
            ),
        }  # fmt: skip
        for name, metric in made.items():
            object.__setattr__(self, name, metric)
        self.rate.set_function(self.throughput.per_second)
