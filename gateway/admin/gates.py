"""Gate reports: why a version may, or may not, meet users."""

from fastapi import APIRouter

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing
from gateway.errors import NotFound
from infra.contracts.manifests import GateReport
from infra.registry import adapters

router = APIRouter()


@router.get("/gates")
def list_gates(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[GateReport]:
    """The last report of each version that has one."""
    with admin.reading() as session:
        rows = adapters.list_adapters(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[GateReport.model_validate(row.gates) for row in rows if row.gates])


@router.get("/gates/{version:id}")
def get_gates(admin: Admin, version: Id) -> GateReport:
    with admin.reading() as session:
        found = adapters.get(session, version, admin.tenant).gates
    if found is None:
        raise NotFound(f"version {version} has not been through its gates")
    return GateReport.model_validate(found)
