"""What the processes of a stack count, read from their `/metrics`: the figures that `thumbwheel status` shows."""

from collections.abc import Mapping
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

PATIENCE_S = 2.0
SHOWN: Mapping[str, Mapping[str, str]] = {  # process -> figure -> sample, summed over its labels
    "feedback": {
        "lag_events": "thumbwheel_feedback_lag_events",
        "events": "thumbwheel_feedback_events_total",
        "votes": "thumbwheel_feedback_votes",
        "dead_letters_open": "thumbwheel_feedback_dead_letters_open",
        "oldest_unjoined_s": "thumbwheel_feedback_oldest_unjoined_seconds",
        "events_per_s": "thumbwheel_feedback_events_per_second",
    },
    "gateway": {
        "spool_bytes": "thumbwheel_gateway_spool_bytes",
        "votes": "thumbwheel_gateway_votes_total",
        "events_lost": "thumbwheel_gateway_events_lost_total",
    },
}


def figures(addresses: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """By process, of those that answer."""
    found = {}
    for name, wanted in SHOWN.items():
        if name in addresses and (samples := _samples(addresses[name])) is not None:
            found[name] = {figure: samples.get(sample, 0.0) for figure, sample in wanted.items()}
    return found


def _samples(address: str) -> dict[str, float] | None:
    try:
        with urlopen(f"{address}/metrics", timeout=PATIENCE_S) as response:
            text = response.read().decode()
    except (URLError, OSError):
        return None
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals
