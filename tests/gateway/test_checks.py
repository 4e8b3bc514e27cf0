"""Check questions over HTTP: planted by an operator, handed to a product, answered as any comparison is."""

from pathlib import Path
from typing import Any

import pytest

from gateway.auth import TOKEN_HEADER
from infra.registry.keys import Scope
from tests.gateway.test_votes import refuse_appends
from tests.support.checks import BAD, GOOD, question_body
from tests.support.scene import Scene, open_scene

QUESTION = "/v1/comparisons/check"
Json = dict[str, Any]


async def plant(scene: Scene, **question: Any) -> Json:
    made = await scene.admin("POST", "/checks", question_body(**question))
    assert made.status_code == 201, made.text
    return dict(made.json())


async def ask(scene: Scene, rater: str = "mia", **wanted: Any) -> Json:
    """The question that a product gets for this rater; raises where it gets none."""
    answer = await scene.http.get(QUESTION, params={"rater": rater, **wanted})
    return dict(answer.raise_for_status().json())


def ids(pair: Json) -> set[str]:
    return {pair[side]["response_id"] for side in "ab"}


def texts(pair: Json) -> dict[str, str]:
    return {pair[side]["response_id"]: pair[side]["message"]["content"] for side in "ab"}


async def test_a_planted_check_is_two_answers_on_the_log_and_the_reply_tells_no_role(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await plant(scene, segment="de")
        assert set(made) == {"check_id", "alias", "segment", "messages", "a", "b"}
        assert (made["alias"], made["segment"], made["messages"][0]["content"]) == (
            "assistant",
            "de",
            "What does math.cos do?",
        )
        events = {body.response_id: (envelope, body) for envelope, body in scene.stack.inference_events()}
        assert set(events) == ids(made)
        for response_id, text in texts(made).items():
            envelope, body = events[response_id]
            assert (envelope.rater, envelope.segment, envelope.consent.train) == (None, "de", False)
            assert body.check == {GOOD: "better", BAD: "worse"}[text]
        assert GOOD.encode() not in b"".join(e.sealed for e, _ in events.values())


async def test_checks_are_listed_with_the_better_answer_and_retired(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await plant(scene)
        (listed,) = (await scene.admin("GET", "/checks")).json()["data"]
        assert {name: listed[name] for name in made} == made
        assert listed[listed["better"]]["message"]["content"] == GOOD
        assert (listed["actor"], listed["retired_at"]) == ("admin", None)
        assert (await scene.admin("DELETE", f"/checks/{made['check_id']}")).status_code == 204
        assert (await scene.admin("DELETE", f"/checks/{made['check_id']}")).status_code == 404
        (listed,) = (await scene.admin("GET", "/checks?alias=assistant&limit=1")).json()["data"]
        assert listed["retired_at"] is not None
        none_left = await scene.http.get(QUESTION, params={"rater": "mia"})
        assert (none_left.status_code, none_left.json()["error"]["code"]) == (404, "no_check_left")
        actions = [
            row["action"] for row in (await scene.admin("GET", f"/audit?subject={made['check_id']}")).json()["data"]
        ]
        assert actions == ["check.retire", "check.plant"]


@pytest.mark.parametrize(
    ("wrong", "status", "param"),
    [
        ({"messages": []}, 400, "messages"),
        ({"worse": GOOD}, 400, None),
        ({"better": "  "}, 400, None),
        ({"messages": [{"role": "user", "content": None}]}, 400, "messages.0.content"),
        ({"role": "better"}, 400, "role"),
        ({"model": "nobody"}, 404, None),
    ],
)
async def test_what_cannot_be_judged_is_not_planted(
    tmp_path: Path, wrong: Json, status: int, param: str | None
) -> None:
    async with open_scene(tmp_path) as scene:
        refused = await scene.admin("POST", "/checks", question_body(**wrong))
        assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
        assert (await scene.admin("GET", "/checks")).json()["data"] == []
        assert scene.stack.inferences() == []


async def test_a_product_gets_a_question_like_any_other(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await plant(scene)
        pair = await ask(scene)
        assert set(pair) == {"messages", "a", "b"}
        assert texts(pair) == texts(made)
        assert pair["messages"] == made["messages"]
        assert set(pair["a"]) == {"response_id", "index", "message"}
        assert pair["a"]["message"]["role"] == "assistant"


async def test_a_rater_has_each_check_once_and_the_same_order_each_time(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = [await plant(scene, prompt=f"Question {at}?") for at in range(3)]
        had: list[str] = []
        for _ in made:
            pair = await ask(scene, had=had)
            assert pair == await ask(scene, had=had)
            assert not ids(pair) & set(had)
            had.append(pair["b"]["response_id"])
        assert {one for pair in made for one in ids(pair)} >= set(had)
        over = await scene.http.get(QUESTION, params={"rater": "mia", "had": had})
        assert (over.status_code, over.json()["error"]["code"]) == (404, "no_check_left")


async def test_neither_the_first_check_nor_its_first_answer_is_the_same_for_everybody(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for at in range(2):
            await plant(scene, prompt=f"Question {at}?")
        pairs = [await ask(scene, f"rater-{at}") for at in range(40)]
        assert len({pair["messages"][0]["content"] for pair in pairs}) == 2
        assert {pair["a"]["message"]["content"] for pair in pairs} == {GOOD, BAD}


async def test_a_segment_or_alias_that_has_no_check_gets_none(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await plant(scene, segment="de")
        assert ids(await ask(scene, segment="de", model="assistant")) == ids(await ask(scene))
        for other in ({"segment": "fr"}, {"model": "other"}):
            assert (await scene.http.get(QUESTION, params={"rater": "mia", **other})).status_code == 404


async def test_the_vote_on_it_comes_back_like_any_other(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await plant(scene)
        pair = await ask(scene)
        a, b = ({name: pair[side][name] for name in ("response_id", "index")} for side in "ab")
        vote = {"a": a, "b": b, "rater": "mia", "choice": "a", "shown_first": "a", "latency_ms": 9000}
        assert (await scene.http.post("/v1/comparisons", json=vote)).status_code == 202
        ((envelope, body),) = scene.stack.feedback_events()
        assert envelope.rater == scene.stack.ports.identity.rater("default", "mia")
        assert [item.response_id for item in body.items] == [a["response_id"], b["response_id"]]


async def test_a_page_compares_the_two_with_the_tokens_that_came_with_them(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await plant(scene)
        answer = await scene.http.get(QUESTION, params={"rater": "mia"})
        a, b = ({"response_id": answer.json()[side]["response_id"]} for side in "ab")
        page = {"authorization": "", TOKEN_HEADER: answer.headers[TOKEN_HEADER]}
        vote = {"a": a, "b": b, "choice": "b"}
        assert (await scene.http.post("/v1/comparisons", json=vote, headers=page)).status_code == 202
        another = {**vote, "rater": "bob"}
        assert (await scene.http.post("/v1/comparisons", json=another, headers=page)).status_code == 403


async def test_a_tenant_is_asked_its_own_checks_only(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        made = await plant(scene)
        key = scene.stack.add_key(*Scope, tenant="another")
        theirs = {"Authorization": f"Bearer {key}"}
        assert (await scene.http.get(QUESTION, params={"rater": "mia"}, headers=theirs)).status_code == 404
        assert (await scene.http.get("/admin/v1/checks", headers=theirs)).json()["data"] == []
        path = f"/admin/v1/checks/{made['check_id']}"
        assert (await scene.http.delete(path, headers=theirs)).status_code == 404


async def test_planting_needs_the_scope_admin_and_asking_the_scope_feedback(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await scene.http.post("/admin/v1/checks", json=question_body())).status_code == 403
        assert (await scene.http.delete("/admin/v1/checks/1")).status_code == 403
        chat_only = {"Authorization": f"Bearer {scene.stack.add_key(Scope.CHAT)}"}
        assert (await scene.http.get(QUESTION, params={"rater": "mia"}, headers=chat_only)).status_code == 403
        nobody = {"Authorization": "Bearer nobody"}
        assert (await scene.http.get(QUESTION, params={"rater": "mia"}, headers=nobody)).status_code == 401


@pytest.mark.parametrize("params", [{}, {"rater": ""}, {"rater": "mia", "segment": "\0"}, {"rater": "mia", "n": "2"}])
async def test_a_question_for_nobody_or_with_a_wrong_wish_is_refused(tmp_path: Path, params: dict[str, str]) -> None:
    async with open_scene(tmp_path) as scene:
        refused = await scene.http.get(QUESTION, params=params)
        assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_while_the_log_is_away_a_check_is_planted_by_way_of_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path) as scene:
        with monkeypatch.context() as away:
            refuse_appends(away)
            made = await plant(scene)
            assert scene.stack.inferences() == []
        found = await scene.inferences(*ids(made))
        assert {body.response_id for body in found} == ids(made)


async def test_a_check_that_can_be_kept_nowhere_is_not_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_scene(tmp_path, gateway={"spool_max_bytes": 100}) as scene:
        with monkeypatch.context() as away:
            refuse_appends(away)
            assert (await scene.admin("POST", "/checks", question_body())).status_code == 503
        assert (await scene.admin("GET", "/checks")).json()["data"] == []
