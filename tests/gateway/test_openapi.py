"""The OpenAPI document holds: whatever schemathesis makes of it, no 5xx comes back and no status it does not name."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.checks import make_planting
from infra.clock import now
from infra.contracts.manifests import GateReport, Verdict
from infra.contracts.traces import Question
from infra.registry import adapters, checks, cycles, traces
from infra.registry.adapters import AdapterState
from tests.support.background import background_scene
from tests.support.checks import make_question
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest
from tests.support.scene import Scene
from tests.support.stack import ALIAS, TENANT

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "5"))  # random requests per operation, beside the systematic ones
TIMEOUT_S = 240 + 20 * EXAMPLES  # of a machine that does other things too; alone it takes a minute
VERSION = "assistant-1-aaaaaaaa"
CONFIG = f"""
[generation]
deterministic = true
max-examples = {EXAMPLES}
no-shrink = true

# Rules between fields, which no JSON Schema says: a valid body may be refused there.
[[operations]]
include-path = [
    "/v1/chat/completions", "/v1/feedback", "/v1/comparisons", "/v1/rankings", "/admin/v1/checks", "/admin/v1/traces",
    "/admin/v1/gates/cases",
]
checks.positive_data_acceptance.enabled = false

# Everybody has a name, whatever it is.
[[operations]]
include-path = ["/v1/raters/{{rater}}", "/v1/raters/{{rater}}/export"]
checks.negative_data_rejection.enabled = false
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with background_scene(tmp_path_factory.mktemp("openapi"), gateway={"export_wait_s": 0.02}) as scene:
        yield scene


@pytest.fixture(scope="module")
def document(scene: Scene) -> dict[str, Any]:
    return dict(httpx.get(f"{scene.url}/openapi.json", timeout=60).json())


def test_the_document_names_every_operation_with_its_errors(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"401", "403", "500", "503"} <= operation["responses"].keys(), path
            assert "422" not in operation["responses"]
    nouns = {path.split("/")[3].partition(":")[0] for path in document["paths"] if path.startswith("/admin/v1/")}
    assert nouns == {"cycles", "datasets", "adapters", "rollouts", "gates", "traces", "checks", "audit", "keys"}
    clients = {path for path in document["paths"] if path.startswith("/v1/")}
    paths = ("chat/completions", "models", "models/{model}", "feedback", "rankings")
    pairs = ("comparisons", "comparisons/check", "comparisons/query")
    rights = ("raters/{rater}", "raters/{rater}/export", "erasures/{erasure_id}")
    assert clients == {f"/v1/{path}" for path in (*paths, *pairs, *rights)}


@pytest.mark.timeout(TIMEOUT_S)
def test_every_operation_answers_as_the_document_says(scene: Scene, document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(narrowed(document, things(scene))))
    (tmp_path / "config.toml").write_text(CONFIG)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", "config.toml", "run", "openapi.json",
        "--url", scene.url, "--header", f"Authorization: Bearer {scene.stack.admin_key}", "--request-timeout", "60",
        "--continue-on-failure", "--warnings", "off",
    ]  # fmt: skip

    def fuzz(side: str) -> "subprocess.CompletedProcess[str]":
        part = [*command, side, "^/admin/"]
        return subprocess.run(part, cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)

    with ThreadPoolExecutor() as pool:  # making up requests takes longer than answering them
        for done in pool.map(fuzz, ("--include-path-regex", "--exclude-path-regex")):
            assert done.returncode == 0, done.stdout + done.stderr


def things(scene: Scene) -> dict[str, list[str]]:
    """One of everything that can be named, by what names it."""
    identity = scene.stack.ports.identity
    with scene.stack.ports.database.transaction() as session:
        cycle = cycles.trigger(session, tenant=TENANT, alias=ALIAS, actor="test", reason="", settings={})
        adapters.register_dataset(session, make_dataset_manifest(dataset_id="d1", tenant=TENANT, alias=ALIAS), "d/d1")
        adapters.register(session, make_adapter_manifest(version=VERSION, alias=ALIAS, tenant=TENANT), f"a/{VERSION}")
        report = GateReport(version=VERSION, champion="base", verdict=Verdict.PASS, gates=[], decided_at=now())
        adapters.store_gates(session, report)
        adapters.move(session, VERSION, AdapterState.ACCEPTED)
        check = checks.add(session, make_planting(identity, TENANT, ALIAS, make_question(), "test").row)
        trace = traces.request(session, TENANT, Question(response_id="nothing"))
        cycle_id, check_id, trace_id = cycle.cycle_id, check.check_id, trace.trace_id
    return {
        "cycle_id": [cycle_id],
        "check_id": [check_id, "nothing"],
        "trace_id": [trace_id, "nothing"],
        "dataset_id": ["d1"],
        "version": [VERSION, "base"],
        "model": [ALIAS, "base", "nobody"],
        "erasure_id": [identity.erasure_handle(TENANT, uuid4()), identity.erasure_handle("another", uuid4())],
        "rater": ["ann", "bob"],
        "response_id": [identity.new_response_id(tenant) for tenant in (TENANT, TENANT, TENANT, "another")],
    }


def narrowed(document: dict[str, Any], names: dict[str, list[str]]) -> dict[str, Any]:
    """With names that exist: made up ones would come no further than a 404."""
    schemas = document["components"]["schemas"]
    limit = {name: {"type": "string", "enum": values} for name, values in names.items()}
    for operations in document["paths"].values():
        for parameter in (p for operation in operations.values() for p in operation.get("parameters", ())):
            if parameter["in"] == "path" and parameter["name"] in limit:
                parameter["schema"] = limit[parameter["name"]]
    for model, field in (
        ("AnswerRef", "response_id"),
        ("ChatRequest", "model"),
        ("Wished", "version"),
        ("CaseBody", "response_id"),
    ):
        schemas[model]["properties"][field] = limit[field]
    schemas["FeedbackBody"]["properties"]["response_id"] = {"anyOf": [limit["response_id"], {"type": "null"}]}
    return document
