"""`thumbwheel dataset ...`: builds datasets by hand and looks at them."""

import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from feedback.command_line import TENANT, Json, Tenant, fail, opened
from infra.console import err, print_json, print_table

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.contracts.manifests import DatasetManifest
    from infra.database.tables import DatasetRow
    from infra.ports import Ports

DatasetId = Annotated[str, typer.Argument(help="As `dataset list` shows it.")]

dataset = typer.Typer(help="Immutable snapshots of joined votes, ready to train on.", no_args_is_help=True)


@dataset.command()
def build(
    alias: Annotated[str, typer.Option(help="Which assistant; default: the gateway's.")] = "",
    tenant: Tenant = TENANT,
    window_days: Annotated[float | None, typer.Option(min=0, help="Instead of feedback.window_days.")] = None,
    json: Json = False,
) -> None:
    """Freezes everything acknowledged so far into a dataset; exit 1 where it has no rows."""
    from feedback.datasets.ordering import order_now
    from feedback.errors import FeedbackError
    from feedback.main import make_cutter, make_snapshots
    from feedback.meter import Meter

    with opened() as ports:
        changed = {} if window_days is None else {"window_days": window_days}
        section = ports.settings.feedback.model_copy(update=changed)
        snapshots = make_snapshots(ports, ports.settings.model_copy(update={"feedback": section}))
        try:
            order = order_now(ports.database, make_cutter(ports, threading.Event()), tenant, alias or _alias(ports))
            with Meter(err()) as meter:
                manifest = snapshots.build(order, progress=meter)
        except FeedbackError as error:
            fail(str(error))
    _print(manifest, json=json)


@dataset.command(name="list")
def list_(
    alias: Annotated[str | None, typer.Option(help="Only this assistant's.")] = None,
    tenant: Tenant = TENANT,
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 20,
    json: Json = False,
) -> None:
    """Datasets, newest first."""
    from infra.registry import adapters

    with opened() as ports, ports.database.reading() as session:
        rows = adapters.list_datasets(session, tenant, alias=alias, limit=limit)
    found = [manifest_of(row) for row in rows]
    if json:
        print_json([manifest.model_dump(mode="json", exclude={"files"}) for manifest in found])
        return
    columns = ("dataset", "alias", "sha256", "as of", "pairs", "test pairs", "prompts", "filtered", "erased")
    print_table(columns, [_cells(manifest) for manifest in found])


@dataset.command()
def show(dataset_id: DatasetId, tenant: Tenant = TENANT, json: Json = False) -> None:
    """One dataset: its window, its rows by table and split, what was left out and why, its files."""
    with opened() as ports:
        manifest = _manifest(ports, tenant, dataset_id)
    _print(manifest, json=json)


@dataset.command()
def diff(before: DatasetId, after: DatasetId, tenant: Tenant = TENANT, json: Json = False) -> None:
    """What changed from one dataset to another."""
    from feedback.datasets.diff import Stored
    from feedback.datasets.diff import diff as compare

    with opened() as ports, tempfile.TemporaryDirectory() as scratch:
        old, new = (
            Stored(_manifest(ports, tenant, name), _fetch(ports, tenant, name, Path(scratch) / side))
            for side, name in (("before", before), ("after", after))
        )
        found = compare(old, new)
    if json:
        print_json(found.as_json())
        return
    rows = [(change.table, change.before, change.after, change.added, change.removed) for change in found.rows]
    print_table(("table", "before", "after", "added", "removed"), rows)
    changes = [("filtered " + c.name, c.before, c.after) for c in found.filtered]
    changes += [("setting " + c.name, c.before, c.after) for c in found.settings]
    changes += [("shards " + name, None, count) for name, count in found.shards.items()]
    print_table(("what", "before", "after"), changes)


@dataset.command()
def export(
    dataset_id: DatasetId,
    directory: Annotated[Path, typer.Argument(help="Where to; must be new or empty.")],
    kind: Annotated[
        Literal["parquet", "jsonl"], typer.Option("--format", help="Files as they are, or JSON lines.")
    ] = "parquet",
    tenant: Tenant = TENANT,
    json: Json = False,
) -> None:
    """Writes a dataset's files into a directory, after checking their hashes."""
    from feedback.datasets.export import export_jsonl, export_parquet

    with opened() as ports, tempfile.TemporaryDirectory() as scratch:
        manifest = _manifest(ports, tenant, dataset_id)
        source = _fetch(ports, tenant, dataset_id, Path(scratch) / "dataset")
        try:
            files = (
                export_parquet(source, directory) if kind == "parquet" else export_jsonl(source, manifest, directory)
            )
        except FileExistsError as error:
            fail(str(error), code=2)
    if json:
        print_json({"dataset_id": dataset_id, "files": [str(file) for file in files]})
    else:
        typer.echo(f"{len(files)} files in {directory}")


def manifest_of(row: "DatasetRow") -> "DatasetManifest":
    from infra.contracts.manifests import DatasetManifest

    return DatasetManifest.model_validate(row.manifest)


def _alias(ports: "Ports") -> str:
    return ports.settings.gateway.alias


def _manifest(ports: "Ports", tenant: str, dataset_id: str) -> "DatasetManifest":
    from infra.registry import adapters

    with ports.database.reading() as session:
        return manifest_of(adapters.get_dataset(session, tenant, dataset_id))


def _fetch(ports: "Ports", tenant: str, dataset_id: str, target: Path) -> Path:
    from infra.registry import adapters

    with ports.database.reading() as session:
        row = adapters.get_dataset(session, tenant, dataset_id)
    if row.erased_at is not None:
        fail(f"dataset {dataset_id} was erased in part at {row.erased_at:%Y-%m-%d %H:%M}: build another")
    return ports.artifacts.fetch(row.path, target)


def _print(manifest: "DatasetManifest", *, json: bool) -> None:
    if json:
        print_json(manifest.model_dump(mode="json"))
        return
    facts: list[tuple[str, str]] = [
        ("dataset", manifest.dataset_id),
        ("alias", manifest.alias),
        ("sha256", manifest.sha256),
    ]
    facts += [("window", f"{manifest.window_start} to {manifest.as_of}"), ("parent", manifest.parent or "none")]
    print_table(("what", "value"), facts)
    counts = [(table, split, rows) for table, splits in manifest.counts.items() for split, rows in splits.items()]
    print_table(("table", "split", "rows"), counts)
    left_out = Counter(manifest.filtered).most_common()
    if left_out:
        print_table(("left out because", "count"), left_out)
    if manifest.weights:
        print_table(("weighing", "value"), list(_flat(manifest.weights)))
    if manifest.redacted:
        print_table(("taken out of texts", "count"), sorted(manifest.redacted.items()))


def _flat(report: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    """A line for each figure; what is counted by reason has the reason in its name."""
    for name, value in report.items():
        if isinstance(value, dict):
            yield from ((f"{name} {reason}", count) for reason, count in _flat(value))
        else:
            yield name, value


def _cells(manifest: "DatasetManifest") -> tuple[object, ...]:
    pairs = manifest.counts.get("preference", {})
    prompts = sum(manifest.counts.get("prompts", {}).values())
    left_out = sum(manifest.filtered.values())
    return (
        manifest.dataset_id, manifest.alias, manifest.sha256[:12], manifest.as_of, pairs.get("train", 0),
        pairs.get("test", 0), prompts, left_out, "yes" if manifest.erased else "",
    )  # fmt: skip
