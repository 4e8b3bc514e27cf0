"""Questions of training over HTTP: handed to raters of the tenant, and events of whoever asked in the first place."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth import TOKEN_HEADER
from infra.clock import now
from infra.registry import erasures
from infra.registry.keys import Scope
from tests.support.events import make_erasure
from tests.support.queries import VERSION, make_query, put_queries
from tests.support.scene import Scene, open_scene
from tests.support.stack import TENANT

QUESTION = "/v1/comparisons/query"
ON: dict[str, Any] = {"offer_queries": True}
Json = dict[str, Any]


async def ask(scene: Scene, rater: str = "mia", **wanted: Any) -> Json:
    """The question that this rater gets; raises where it gets none."""
    answer = await scene.http.get(QUESTION, params={"rater": rater, **wanted})
    return dict(answer.raise_for_status().json())


async def refused(scene: Scene, rater: str = "mia", **wanted: Any) -> tuple[int, str]:
    answer = await scene.http.get(QUESTION, params={"rater": rater, **wanted})
    return answer.status_code, answer.json()["error"]["code"]


NONE_LEFT = (404, "no_query_left")


async def test_a_question_is_two_answers_on_the_log_that_belong_to_the_prompts_owner(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        made = put_queries(scene.stack.ports, make_query(owner="owner-hash", segment="de"))
        pair = await ask(scene)
        assert pair["messages"] == [{"role": "user", "content": "What is one?"}]
        events = {body.response_id: (envelope, body) for envelope, body in scene.stack.inference_events()}
        assert set(events) == {pair["a"]["response_id"], pair["b"]["response_id"]}
        for side in "ab":
            envelope, body = events[pair[side]["response_id"]]
            assert (envelope.rater, envelope.segment, envelope.consent.train) == ("owner-hash", "de", True)
            assert envelope.occurred_at == made.created_at
            (choice,) = body.choices
            assert choice.message == pair[side]["message"]
            assert (choice.arm, choice.version) == ("query", VERSION if "this" in choice.message["content"] else "base")


async def test_the_vote_comes_back_as_any_comparison_and_points_at_the_question(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query())
        pair = await ask(scene)
        a, b = ({"response_id": pair[side]["response_id"], "index": pair[side]["index"]} for side in "ab")
        vote = {"a": a, "b": b, "rater": "mia", "choice": "a", "shown_first": "a"}
        assert (await scene.http.post("/v1/comparisons", json=vote)).status_code == 202
        ((_, body),) = scene.stack.feedback_events()
        assert [item.response_id for item in body.items] == [a["response_id"], b["response_id"]]


async def test_a_page_compares_the_two_with_the_tokens_that_came_with_them(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query())
        answer = await scene.http.get(QUESTION, params={"rater": "mia"})
        a, b = ({"response_id": answer.json()[side]["response_id"]} for side in "ab")
        async with httpx.AsyncClient(base_url=scene.url, verify=False) as page:
            headers = {TOKEN_HEADER: answer.headers[TOKEN_HEADER]}
            voted = await page.post("/v1/comparisons", json={"a": a, "b": b, "choice": "tie"}, headers=headers)
        assert voted.status_code == 202


async def test_handing_it_out_again_makes_no_other_events(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query())
        for rater in ("mia", "ann", "mia"):
            await ask(scene, rater)
        assert len({envelope.event_id for envelope, _ in scene.stack.inference_events()}) == 2


async def test_a_rater_has_each_question_once_in_an_order_that_stays(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, *(make_query(name) for name in ("one", "two", "three")))
        had: list[str] = []
        for _ in range(3):
            pair = await ask(scene, had=had)
            assert pair == await ask(scene, had=had)
            had.append(pair["b"]["response_id"])
        assert len(set(had)) == 3
        assert await refused(scene, had=had) == NONE_LEFT


async def test_neither_the_first_question_nor_its_first_answer_is_the_same_for_everybody(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query("one"), make_query("two"))
        pairs = [await ask(scene, f"rater-{at}") for at in range(30)]
        assert len({pair["messages"][0]["content"] for pair in pairs}) == 2
        assert len({pair["a"]["message"]["content"] for pair in pairs}) == 4


async def test_nothing_is_offered_unless_it_is_switched_on(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        put_queries(scene.stack.ports, make_query())
        assert await refused(scene) == NONE_LEFT
        assert scene.stack.inferences() == []


@pytest.mark.parametrize("wanted", [{"model": "helper"}, {"segment": "en"}])
async def test_another_alias_or_segment_gets_none(tmp_path: Path, wanted: Json) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query(segment="de"))
        assert await refused(scene, **wanted) == NONE_LEFT


async def test_another_tenant_gets_none(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query(), tenant="acme")
        assert await refused(scene) == NONE_LEFT


async def test_only_the_newest_version_that_asks_is_heard(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        put_queries(scene.stack.ports, make_query("old"), version="assistant-1-aaaaaaaa")
        put_queries(scene.stack.ports, make_query("new"), version="assistant-2-bbbbbbbb")
        assert (await ask(scene))["messages"][0]["content"] == "What is new?"


async def test_the_question_of_somebody_who_was_erased_since_is_not_handed_out(tmp_path: Path) -> None:
    """Before the eraser has come to the file."""
    async with open_scene(tmp_path, gateway=ON) as scene:
        made = put_queries(scene.stack.ports, make_query("hers", owner="mia-hash"), make_query("his", owner="ben-hash"))
        for name, rater, up_to in (
            ("after", "mia-hash", made.created_at + timedelta(seconds=1)),
            ("before", "ben-hash", made.created_at - timedelta(seconds=1)),
        ):
            with scene.stack.ports.database.transaction() as session:
                erasures.accept(session, TENANT, make_erasure(name, rater, up_to), now())
        seen = {(await ask(scene, f"rater-{at}"))["messages"][0]["content"] for at in range(10)}
        assert seen == {"What is his?"}


async def test_a_key_without_the_scope_gets_none(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway=ON) as scene:
        key = scene.stack.add_key(Scope.CHAT, name="chat only")
        answer = await scene.http.get(QUESTION, params={"rater": "mia"}, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 403
