"""What this gateway counts, for Prometheus."""

from prometheus_client import (
    GC_COLLECTOR,
    PLATFORM_COLLECTOR,
    PROCESS_COLLECTOR,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
)

ANSWER_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """A registry of its own, so that several gateways can live in one process of a test."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        for collector in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):
            registry.register(collector)
        name = "thumbwheel_gateway_{}".format
        self.answers = Counter(name("answers_total"), "Answers by outcome.", ["outcome"], registry=registry)
        self.refusals = Counter(
            name("refusals_total"), "Chat requests refused, by status.", ["status"], registry=registry
        )
        self.answer_seconds = Histogram(
            name("answer_seconds"), "From request to last byte.", buckets=ANSWER_BUCKETS, registry=registry
        )
        self.first_byte_seconds = Histogram(
            name("first_byte_seconds"),
            "From request to the engine's first byte.",
            buckets=ANSWER_BUCKETS,
            registry=registry,
        )
        self.reroutes = Counter(
            name("reroutes_total"),
            "Answers sent to the champion after the engine's 404, or after one side of a pair had failed.",
            registry=registry,
        )
        self.mirrors = Counter(
            name("mirrors_total"),
            "Requests that a shadow was to answer too: completed, failed, or skipped since too many were under way.",
            ["outcome"],
            registry=registry,
        )
        self.in_flight = Gauge(name("in_flight"), "Answers under way, by version.", ["version"], registry=registry)
        self.revision = Gauge(name("routing_revision"), "Revision of the routing table in use.", registry=registry)
        self.table_age = Gauge(name("routing_age_seconds"), "Since the routing table was last read.", registry=registry)
        self.votes = Counter(
            name("votes_total"), "Votes acknowledged, by where they are stored.", ["stored"], registry=registry
        )
        self.spool_bytes = Gauge(
            name("spool_bytes"), "Bytes in the spool that the log has not taken.", registry=registry
        )
        self.shipped = Counter(
            name("events_shipped_total"), "Events taken from the spool to the log.", registry=registry
        )
        self.events_lost = Counter(
            name("events_lost_total"), "Inference events that the full spool did not take.", registry=registry
        )
