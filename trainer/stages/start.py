"""What a cycle's policy starts from, and which judgements it has not learnt from yet."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.contracts.routing import BASE_VERSION
from infra.registry import adapters
from trainer.data import read_table
from trainer.errors import StageFailed
from trainer.stages.material import Material

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Start:
    """`parent` is a published version, None the anchor; `seen_until` the last cut of what that one was trained on."""

    parent: str | None = None
    seen_until: datetime | None = None

    def unseen(self, rows: Rows) -> Rows:
        """Those cast after that cut. A vote that was cast before and came later is left to the next anchor."""
        if self.seen_until is None:
            return rows
        return [row for row in rows if row.get("occurred_at") and row["occurred_at"] > self.seen_until]

    def told(self) -> str:
        """For a message about how many those are."""
        if self.seen_until is None:
            return ""
        cut = f"{self.seen_until:%Y-%m-%d %H:%M:%S}"
        return f" that {self.parent} hasn't learnt from (cast after {cut}; trainer.init=anchor takes all)"


def start_of(material: Material) -> Start:
    """Raises StageFailed where nobody knows what the champion was trained on."""
    champion = material.champion() if material.settings.init == "champion" else BASE_VERSION
    return Start() if champion == BASE_VERSION else Start(champion, _seen_until(material, champion))


def unseen_rows(material: Material, start: Start, table: str) -> Rows:
    """What DPO and KTO learn from: starting from the champion, they take what is new to it, and it is the reference."""
    return start.unseen(read_table(material.dataset, table, "train"))


def _seen_until(material: Material, version: str) -> datetime:
    with material.ports.database.reading() as session:
        manifest = adapters.manifest_of(adapters.get(session, version))
        known = adapters.datasets_named(session, material.row.tenant, manifest.dataset_ids)
    if not known:
        raise StageFailed(f"what {version} was trained on isn't known any more: set trainer.init=anchor")
    return max(dataset.as_of for dataset in known)
