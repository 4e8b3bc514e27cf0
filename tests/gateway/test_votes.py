from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.clock import now
from infra.contracts.events import Consent, Feedback, Source, vote_key
from infra.eventlog.base import LogUnavailable
from infra.eventlog.sqlite import SqliteProducer
from infra.identity import FeedbackGrant, Identity
from infra.registry.keys import Scope
from tests.support.scene import Scene, eventually, open_scene

TOKEN = "x-thumbwheel-feedback-token"


async def vote(
    scene: Scene, path: str = "/v1/feedback", headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    return await scene.http.post(path, json=body, headers=headers or {})


async def browser_vote(scene: Scene, token: str, path: str = "/v1/feedback", **body: Any) -> httpx.Response:
    """As a page votes: with the answer's token and no key."""
    async with httpx.AsyncClient(base_url=scene.url, verify=False) as page:
        return await page.post(path, json=body, headers={TOKEN: token})


def stored(scene: Scene) -> list[Feedback]:
    return [body for _, body in scene.stack.feedback_events()]


async def test_a_vote_is_in_the_log_when_it_is_acknowledged(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await scene.answer_id()
        answer = await vote(
            scene, response_id=response_id, index=1, name="thumbs", value=False, rater="ann", reasons=["wrong"],
            comment="no", latency_ms=900,
        )  # fmt: skip
        assert (answer.status_code, answer.json()["stored"]) == (202, "log")
        ((envelope, body),) = scene.stack.feedback_events()
        assert str(envelope.event_id) == answer.json()["feedback_id"]
        assert envelope.rater == scene.stack.ports.identity.rater("default", "ann")
        assert (body.kind, body.name, body.value, body.response_id, body.index) == (
            "thumbs",
            "thumbs",
            False,
            response_id,
            1,
        )
        assert (body.reasons, body.comment, body.latency_ms) == (["wrong"], "no", 900)


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("thumbs", True, "thumbs"),
        ("rating", 5, "rating"),
        ("rating", 4.5, "rating"),
        ("correction", "math.cos(x) returns the cosine.", "correction"),
        ("comment", "thanks", "comment"),
        ("politeness", 0.5, "custom"),
        ("copied", True, "custom"),
        ("thumbs", None, "thumbs"),
    ],
)
async def test_each_kind_of_vote_is_stored_as_it_was_said(tmp_path: Path, name: str, value: Any, kind: str) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await vote(scene, response_id=await scene.answer_id(), name=name, value=value, rater="ann")
        assert answer.status_code == 202
        (body,) = stored(scene)
        assert (body.kind, body.name, body.value) == (kind, name, value)
        assert type(body.value) is type(value)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "thumbs", "value": 1}, None),
        ({"name": "thumbs", "value": "yes"}, None),
        ({"name": "rating", "value": 6}, None),
        ({"name": "rating", "value": True}, None),
        ({"name": "correction", "value": ""}, None),
        ({"name": "comment", "value": 3}, None),
        ({"name": "comparison", "value": "a"}, None),
        ({"name": "thumbs"}, "value"),
        ({"name": "no spaces", "value": True}, "name"),
        ({"name": "thumbs", "value": True, "latency": 4}, "latency"),
        ({"name": "thumbs", "value": True, "session_id": "s"}, None),
        ({"name": "thumbs", "value": True, "index": -1}, "index"),
    ],
)
async def test_a_vote_that_makes_no_sense_is_refused_and_not_stored(
    tmp_path: Path, body: Any, param: str | None
) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await vote(scene, response_id=await scene.answer_id(), **body)
        assert answer.status_code == 400
        if param:
            assert answer.json()["error"]["param"].startswith(param)
        assert stored(scene) == []


async def test_a_conversation_may_be_judged_as_a_whole_with_a_key(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await vote(scene, session_id="s1", name="rating", value=4, rater="ann")).status_code == 202
        ((envelope, body),) = scene.stack.feedback_events()
        assert (envelope.session_id, body.session_id, body.response_id) == ("s1", "s1", None)


async def test_a_vote_before_its_inference_event_is_taken_by_its_handle_alone(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        minted = scene.stack.ports.identity.new_response_id("default")
        assert (await vote(scene, response_id=minted, name="thumbs", value=True)).status_code == 202


async def test_another_tenants_response_does_not_exist_here(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        foreign = scene.stack.ports.identity.new_response_id("another")
        for response_id in (foreign, "chatcmpl-made-up", foreign[:-1] + "0"):
            answer = await vote(scene, response_id=response_id, name="thumbs", value=True)
            assert answer.status_code == 404
        assert stored(scene) == []


async def test_a_key_without_the_scope_cannot_vote(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        headers = {"Authorization": f"Bearer {scene.stack.add_key(Scope.CHAT)}"}
        answer = await vote(scene, headers=headers, response_id=await scene.answer_id(), name="thumbs", value=True)
        assert answer.status_code == 403


async def test_a_page_votes_with_the_token_alone(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await scene.chat(user="ann")
        cast = await browser_vote(
            scene, answer.headers[TOKEN], response_id=answer.json()["id"], name="thumbs", value=True
        )
        assert cast.status_code == 202
        ((envelope, _),) = scene.stack.feedback_events()
        assert (envelope.tenant, envelope.rater) == ("default", scene.stack.ports.identity.rater("default", "ann"))


async def test_forged_expired_and_foreign_tokens_store_nothing(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        mine, other = await scene.answer_id(user="ann"), await scene.answer_id(user="ann")
        identity = scene.stack.ports.identity
        good = FeedbackGrant("default", mine, None)
        forged = Identity(b"another secret").sign(good, ttl_s=60)
        expired = identity.sign(good, ttl_s=1, at=now() - timedelta(seconds=5))
        foreign = identity.sign(FeedbackGrant("default", other, None), ttl_s=60)
        for token, status in ((forged, 401), (expired, 401), ("nonsense", 401), (foreign, 403)):
            cast = await browser_vote(scene, token, response_id=mine, name="thumbs", value=True)
            assert cast.status_code == status
        assert stored(scene) == []


async def test_a_token_speaks_for_its_own_rater_only(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await scene.chat(user="ann")
        body = {"response_id": answer.json()["id"], "name": "thumbs", "value": True}
        assert (await browser_vote(scene, answer.headers[TOKEN], **body, rater="bob")).status_code == 403
        assert (await browser_vote(scene, answer.headers[TOKEN], **body, rater="ann")).status_code == 202
        session = {"session_id": "s", "name": "thumbs", "value": True}
        assert (await browser_vote(scene, answer.headers[TOKEN], **session)).status_code == 403


async def test_a_good_key_does_not_mend_a_bad_token(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        body = {"response_id": await scene.answer_id(), "name": "thumbs", "value": True}
        assert (await vote(scene, headers={TOKEN: "nonsense"}, **body)).status_code == 401


async def test_the_same_idempotency_key_is_the_same_event(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        body = {"response_id": await scene.answer_id(), "name": "thumbs", "value": True, "rater": "ann"}
        first, again = [await vote(scene, headers={"Idempotency-Key": "k1"}, **body) for _ in range(2)]
        other = await vote(scene, headers={"Idempotency-Key": "k2"}, **body)
        elsewhere = await vote(scene, headers={"Idempotency-Key": "k1"}, **{**body, "rater": "bob"})
        ids = [answer.json()["feedback_id"] for answer in (first, again, other, elsewhere)]
        assert ids[0] == ids[1]
        assert len(set(ids)) == 3


async def test_consent_may_be_said_with_the_vote(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await scene.answer_id()
        for consent in (True, False, None):
            said = {} if consent is None else {"consent_train": consent}
            await vote(
                scene, response_id=response_id, name="thumbs", value=True, rater=str(consent), source="ai", **said
            )
        consents = {envelope.consent for envelope, _ in scene.stack.feedback_events()}
        assert consents == {
            Consent(train=True, explicit=True),
            Consent(train=False, explicit=True),
            Consent(train=False, explicit=False),
        }
        assert {envelope.source for envelope, _ in scene.stack.feedback_events()} == {Source.AI}


async def test_two_answers_of_one_request_are_compared_by_index(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await scene.chat(n=2, user="ann")
        response_id = answer.json()["id"]
        sides = {"a": {"response_id": response_id, "index": 0}, "b": {"response_id": response_id, "index": 1}}
        said = {"choice": "b", "shown_first": "a", "latency_ms": 4000, "strength": 2}
        cast = await browser_vote(scene, answer.headers[TOKEN], "/v1/comparisons", **sides, **said)
        assert cast.status_code == 202
        (body,) = stored(scene)
        assert (body.kind, body.name, body.value, body.shown_first) == ("comparison", "overall", "b", "a")
        assert (body.strength, body.latency_ms) == (2, 4000)
        assert [[(i.response_id, i.index) for i in group] for group in body.groups] == [
            [(response_id, 0)],
            [(response_id, 1)],
        ]


async def test_answers_of_two_responses_are_compared_with_both_tokens(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        first, second, third = [await scene.chat(user=user) for user in ("ann", "ann", "bob")]
        tokens = [answer.headers[TOKEN] for answer in (first, second, third)]

        async def compared(*given: str, b: httpx.Response) -> int:
            sides = {"a": {"response_id": first.json()["id"]}, "b": {"response_id": b.json()["id"]}}
            return (await browser_vote(scene, ", ".join(given), "/v1/comparisons", **sides, choice="tie")).status_code

        assert await compared(tokens[0], b=second) == 403
        assert await compared(tokens[0], tokens[2], b=third) == 403
        assert stored(scene) == []
        assert await compared(tokens[0], tokens[1], b=second) == 202


async def test_a_comparison_is_one_vote_whichever_side_is_named_first(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        one, two = await scene.answer_id(), await scene.answer_id()
        for a, b in ((one, two), (two, one)):
            body = {"a": {"response_id": a}, "b": {"response_id": b}, "choice": "a", "rater": "ann"}
            assert (await vote(scene, "/v1/comparisons", **body)).status_code == 202
        assert len({vote_key("ann", body) for body in stored(scene)}) == 1


@pytest.mark.parametrize("choice", ["a", "b", "tie", "both_bad", None])
async def test_every_choice_and_a_retraction_are_taken(tmp_path: Path, choice: str | None) -> None:
    async with open_scene(tmp_path) as scene:
        sides = {"a": {"response_id": await scene.answer_id()}, "b": {"response_id": await scene.answer_id()}}
        assert (await vote(scene, "/v1/comparisons", **sides, choice=choice)).status_code == 202
        assert stored(scene)[0].value == choice


async def test_an_answer_cannot_be_compared_with_itself_nor_a_strength_be_infinite(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        one, two = await scene.answer_id(), await scene.answer_id()
        same = {"a": {"response_id": one}, "b": {"response_id": one}, "choice": "a"}
        assert (await vote(scene, "/v1/comparisons", **same)).status_code == 400
        content = (
            f'{{"a": {{"response_id": "{one}"}}, "b": {{"response_id": "{two}"}}, "choice": "a", "strength": Infinity}}'
        )
        headers = {"Content-Type": "application/json"}
        assert (await scene.http.post("/v1/comparisons", content=content, headers=headers)).status_code == 400


async def test_a_ranking_keeps_its_order_and_its_ties(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        one, two, three = [{"response_id": await scene.answer_id(), "index": 0} for _ in range(3)]
        assert (
            await vote(scene, "/v1/rankings", items=[two, [one, three]], name="clarity", rater="ann")
        ).status_code == 202
        taken_back = await vote(
            scene, "/v1/rankings", items=[one, two, three], name="clarity", rater="ann", retract=True
        )
        assert taken_back.status_code == 202
        ranked, retracted = stored(scene)
        assert [[item.response_id for item in group] for group in ranked.groups] == [
            [two["response_id"]], [one["response_id"], three["response_id"]],
        ]  # fmt: skip
        assert ranked.value is not None
        assert retracted.value is None
        assert vote_key("ann", ranked) == vote_key("ann", retracted)


@pytest.mark.parametrize("shape", ["one", "twice", "empty tie", "foreign"])
async def test_a_ranking_that_makes_no_sense_is_refused(tmp_path: Path, shape: str) -> None:
    async with open_scene(tmp_path) as scene:
        mine, other = {"response_id": await scene.answer_id()}, {"response_id": await scene.answer_id()}
        foreign = {"response_id": scene.stack.ports.identity.new_response_id("another")}
        items = {"one": [mine], "twice": [mine, mine], "empty tie": [mine, [], other], "foreign": [mine, foreign]}[
            shape
        ]
        assert (await vote(scene, "/v1/rankings", items=items)).status_code == (404 if shape == "foreign" else 400)
        assert stored(scene) == []


def refuse_appends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log is away: nothing is taken, neither votes nor what the spool ships."""
    from concurrent.futures import Future

    def append(self: SqliteProducer, topic: str, key: str, value: bytes) -> "Future[Any]":
        done: Future[Any] = Future()
        done.set_exception(LogUnavailable("away"))
        return done

    monkeypatch.setattr(SqliteProducer, "append", append)


async def test_while_the_log_is_away_a_vote_goes_to_the_spool_and_later_to_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await scene.answer_id()
        refuse_appends(monkeypatch)
        answer = await vote(scene, response_id=response_id, name="thumbs", value=True)
        assert (answer.status_code, answer.json()["stored"]) == (202, "spool")
        assert stored(scene) == []
        monkeypatch.undo()
        await eventually(lambda: len(stored(scene)) == 1)


async def test_a_log_that_does_not_answer_in_time_is_a_log_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import Future

    async with open_scene(tmp_path, gateway={"log_ack_timeout_s": 0.1}) as scene:
        response_id = await scene.answer_id()
        await scene.inference(response_id)
        monkeypatch.setattr(SqliteProducer, "append", lambda self, topic, key, value: Future())
        answer = await vote(scene, response_id=response_id, name="thumbs", value=True)
        assert answer.json()["stored"] == "spool"
        monkeypatch.undo()


async def test_a_vote_that_can_be_kept_nowhere_is_not_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scene(tmp_path, gateway={"spool_max_bytes": 100}) as scene:
        minted = scene.stack.ports.identity.new_response_id("default")
        refuse_appends(monkeypatch)
        answer = await vote(scene, response_id=minted, name="thumbs", value=True)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        monkeypatch.undo()


async def test_pages_of_the_given_origins_may_vote_and_nothing_else(tmp_path: Path) -> None:
    origin = "https://app.example"
    async with open_scene(tmp_path, gateway={"cors_origins": (origin,)}) as scene:
        asks = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": TOKEN}
        allowed = await scene.http.options("/v1/feedback", headers=asks)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
        assert TOKEN in allowed.headers["access-control-allow-headers"]
        stranger = await scene.http.options("/v1/feedback", headers={**asks, "Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in stranger.headers
        chat = await scene.http.options("/v1/chat/completions", headers=asks)
        assert "access-control-allow-origin" not in chat.headers
        answer = await scene.chat()
        body = {"response_id": answer.json()["id"], "name": "thumbs", "value": True}
        cast = await vote(scene, headers={"Origin": origin}, **body)
        assert cast.headers["access-control-allow-origin"] == origin
