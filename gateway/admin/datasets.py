"""Datasets: what was frozen for training."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, View
from infra.registry import adapters

router = APIRouter()


class DatasetView(View):
    dataset_id: str
    alias: str
    sha256: str
    path: str
    manifest: dict[str, Any]
    created_at: datetime
    erased_at: datetime | None


@router.get("/datasets")
def list_datasets(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[DatasetView]:
    with admin.reading() as session:
        rows = adapters.list_datasets(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[DatasetView.model_validate(row) for row in rows])


@router.get("/datasets/{dataset_id:id}")
def get_dataset(admin: Admin, dataset_id: Id) -> DatasetView:
    with admin.reading() as session:
        return DatasetView.model_validate(adapters.get_dataset(session, admin.tenant, dataset_id))
