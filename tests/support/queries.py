"""Questions of training, and the version that they came with."""

from datetime import datetime
from typing import Any

from infra.artifacts import dump_json
from infra.clock import now
from infra.contracts.queries import Queries, Query, QueryAnswer, queries_path
from infra.ports import Ports
from infra.registry import adapters
from tests.support.manifests import make_adapter_manifest
from tests.support.stack import ALIAS, TENANT

VERSION = "assistant-1-aaaaaaaa"


def make_query(name: str = "one", **overrides: Any) -> Query:
    fields: dict[str, Any] = {
        "query_id": f"query-{name}",
        "prompt_id": f"prompt-{name}",
        "prompt": [{"role": "user", "content": f"What is {name}?"}],
        "a": QueryAnswer(version=VERSION, content=f"{name} is this."),
        "b": QueryAnswer(version="base", content=f"{name} is that."),
        "preference": 0.5,
        "disagreement": 0.1,
    }
    return Query.model_validate({**fields, **overrides})


def put_queries(
    ports: Ports, *queries: Query, version: str = VERSION, tenant: str = TENANT, created_at: datetime | None = None
) -> Queries:
    """As training publishes them: the file, then the version's row."""
    made = Queries(
        version=version, alias=ALIAS, tenant=tenant, created_at=created_at or now(), members=3, candidates=10,
        queries=list(queries),
    )  # fmt: skip
    ports.artifacts.write(queries_path(version), dump_json(made.model_dump(mode="json")))
    manifest = make_adapter_manifest(version=version, alias=ALIAS, tenant=tenant)
    with ports.database.transaction() as session:
        adapters.register(session, manifest, f"adapters/{version}")
    return made
