"""What a judge gets to see: the events of a dataset's window, opened and redacted as a dataset has them."""

from datetime import timedelta

from feedback.cells import start_of_day
from feedback.datasets.archive import Archive
from feedback.datasets.redaction import Redactor
from feedback.datasets.snapshot import Order
from feedback.judging.candidates import Candidates
from infra.ports import Ports


def make_candidates(ports: Ports, order: Order, rater: str) -> Candidates:
    settings = ports.settings.feedback
    start = start_of_day(order.as_of - timedelta(days=settings.window_days))
    redactor = Redactor(settings.redact_region or None) if settings.redact_pii else None
    archive = Archive(ports.database, ports.sealer, order.tenant, start, order.cut, redactor)
    return Candidates(archive, settings, order.alias, order.as_of, rater)
