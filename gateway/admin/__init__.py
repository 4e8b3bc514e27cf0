"""`/admin/v1`: what an operator may see and wish for. One file per noun; wishes become registry rows, never deeds."""

from functools import cache

from fastapi import APIRouter

from gateway.documents import ADMIN_RESPONSES

PREFIX = "/admin/v1"


@cache
def admin_router() -> APIRouter:
    from gateway.admin import adapters, audit, cases, checks, cycles, datasets, gates, keys, rollouts, traces

    root = APIRouter(prefix=PREFIX, tags=["admin"], responses=ADMIN_RESPONSES)
    for noun in (cycles, datasets, adapters, rollouts, cases, gates, traces, checks, audit, keys):
        root.include_router(noun.router)
    return root
