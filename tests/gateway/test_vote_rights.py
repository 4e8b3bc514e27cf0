"""Who may vote on what: the same on each of the three paths, and whatever is refused leaves nothing behind."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.clock import now
from infra.contracts.events import vote_key
from infra.identity import FeedbackGrant, Identity
from infra.registry.keys import Scope
from tests.support.scene import Json, Scene, open_scene

TOKEN = "x-thumbwheel-feedback-token"
Ballot = Callable[[str, str], Json]
BALLOTS: dict[str, Ballot] = {
    "/v1/feedback": lambda one, _: {"response_id": one, "name": "thumbs", "value": True},
    "/v1/comparisons": lambda one, two: {"a": {"response_id": one}, "b": {"response_id": two}, "choice": "a"},
    "/v1/rankings": lambda one, two: {"items": [{"response_id": one}, {"response_id": two}]},
}
pytestmark = pytest.mark.parametrize("path", BALLOTS)


async def cast(scene: Scene, path: str, body: Json, headers: Json | None = None) -> httpx.Response:
    """With these headers alone: no key unless they hold one."""
    async with httpx.AsyncClient(base_url=scene.url, verify=False) as page:
        return await page.post(path, json=body, headers=headers or {})


def key(value: str) -> Json:
    return {"Authorization": f"Bearer {value}"}


async def ballot(scene: Scene, path: str) -> Json:
    return BALLOTS[path](await scene.answer_id(user="ann"), await scene.answer_id(user="ann"))


def tokens(scene: Scene, body: Json, signer: Identity | None = None, rater: str | None = None, **when: Any) -> Json:
    """A token for every answer that the ballot names."""
    signer = signer or scene.stack.ports.identity
    named = [body.get("response_id"), *(body.get(side, {}).get("response_id") for side in "ab")]
    named += [item["response_id"] for item in body.get("items", ())]
    signed = [signer.sign(FeedbackGrant("default", name, rater), **{"ttl_s": 60, **when}) for name in named if name]
    return {TOKEN: ", ".join(signed)}


async def test_without_a_key_or_a_token_nobody_votes(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        body = await ballot(scene, path)
        assert (await cast(scene, path, body)).status_code == 401
        assert (await cast(scene, path, body, key("tw-nobody"))).status_code == 401
        assert (await cast(scene, path, body, key(scene.stack.add_key(Scope.CHAT)))).status_code == 403
        assert scene.stack.feedback_events() == []


async def test_forged_expired_and_foreign_tokens_are_refused(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        body, other = await ballot(scene, path), await ballot(scene, path)
        forged = tokens(scene, body, Identity(b"another secret"))
        expired = tokens(scene, body, ttl_s=1, at=now() - timedelta(seconds=5))
        for headers, status in ((forged, 401), (expired, 401), ({TOKEN: "x"}, 401), (tokens(scene, other), 403)):
            assert (await cast(scene, path, body, headers)).status_code == status
            both = {**headers, **key(scene.stack.client_key)}
            assert (await cast(scene, path, body, both)).status_code == status
        assert scene.stack.feedback_events() == []


async def test_a_token_is_for_its_own_rater(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        body = await ballot(scene, path)
        ann = scene.stack.ports.identity.rater("default", "ann")
        headers = tokens(scene, body, rater=ann)
        assert (await cast(scene, path, {**body, "rater": "bob"}, headers)).status_code == 403
        assert (await cast(scene, path, {**body, "rater": "ann"}, headers)).status_code == 202
        assert (await cast(scene, path, body, headers)).status_code == 202
        assert {envelope.rater for envelope, _ in scene.stack.feedback_events()} == {ann}


async def test_responses_of_another_tenant_are_not_there(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        mine, foreign = await scene.answer_id(), scene.stack.ports.identity.new_response_id("another")
        assert (await cast(scene, path, BALLOTS[path](foreign, mine), key(scene.stack.client_key))).status_code == 404
        stranger = key(scene.stack.add_key(Scope.FEEDBACK, tenant="another"))
        assert (await cast(scene, path, BALLOTS[path](mine, foreign), stranger)).status_code == 404
        assert scene.stack.feedback_events() == []


async def test_a_vote_that_is_sent_again_with_its_key_is_the_same_event(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        body = {**await ballot(scene, path), "rater": "ann"}
        repeated = {**key(scene.stack.client_key), "Idempotency-Key": "k1"}
        first, again = [await cast(scene, path, body, repeated) for _ in range(2)]
        fresh = await cast(scene, path, body, key(scene.stack.client_key))
        assert first.json()["feedback_id"] == again.json()["feedback_id"] != fresh.json()["feedback_id"]
        events = scene.stack.feedback_events()
        assert len({envelope.event_id for envelope, _ in events}) == 2
        assert len({vote_key(envelope.rater, vote) for envelope, vote in events}) == 1


async def test_a_vote_is_taken_back_under_the_same_key(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        body = {**await ballot(scene, path), "rater": "ann"}
        undone = {"/v1/feedback": {"value": None}, "/v1/comparisons": {"choice": None}}.get(path, {"retract": True})
        for said in (body, {**body, **undone}):
            assert (await cast(scene, path, said, key(scene.stack.client_key))).status_code == 202
        (_, stood), (_, taken_back) = scene.stack.feedback_events()
        assert (stood.value is None, taken_back.value) == (False, None)
        assert vote_key("ann", stood) == vote_key("ann", taken_back)


async def test_a_page_of_a_given_origin_may_read_why_its_vote_was_refused(tmp_path: Path, path: str) -> None:
    origin = "https://app.example"
    limits = {"cors_origins": (origin,), "max_body_bytes": 1000}
    async with open_scene(tmp_path, gateway=limits) as scene:
        body, headers = await ballot(scene, path), {"Origin": origin, TOKEN: "x"}
        for said, status in ((body, 401), ({}, 400), ({**body, "comment": "x" * 2000}, 413)):
            refused = await cast(scene, path, said, headers)
            assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (status, origin)


async def test_without_the_setting_no_page_may_vote(tmp_path: Path, path: str) -> None:
    async with open_scene(tmp_path) as scene:
        asks = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
        answer = await scene.http.options(path, headers=asks)
        assert answer.status_code == 405
        assert not [name for name in answer.headers if name.startswith("access-control")]
