"""Two gateways that share their keys through a database, and one whose keys are away."""

from pathlib import Path

from infra.sealing import KeyDestroyed
from infra.services.postgres import Postgres
from tests.support.keyrings import seconds_until
from tests.support.scene import Scene, open_scene
from tests.support.servers import fresh_database
from tests.support.stack import free_port

MIA = {"user": "mia"}


async def vote(scene: Scene, response_id: str) -> int:
    body = {"response_id": response_id, "rater": "mia", "name": "thumbs", "value": True}
    return (await scene.http.post("/v1/feedback", json=body)).status_code


async def test_who_is_erased_at_one_gateway_is_erased_for_every_other(tmp_path: Path, postgres: Postgres) -> None:
    """They share no directory: only the keys, and what a person is called."""
    infra = {"keyring_url": fresh_database(postgres), "secret": "the same for all"}
    async with open_scene(tmp_path / "a", infra=infra) as here, open_scene(tmp_path / "b", infra=infra) as there:
        response_id = (await there.chat(**MIA)).json()["id"]
        await there.inference(response_id)
        [envelope] = [envelope for envelope, _ in there.stack.inference_events()]
        assert not (tmp_path / "a" / "keyring.db").exists()
        headers = {"Authorization": f"Bearer {here.stack.admin_key}"}
        assert (await here.http.delete("/v1/raters/mia", headers=headers)).status_code == 202
        ring, sealed, context = there.stack.ports.keyring, envelope.sealed, envelope.event_id.bytes
        seconds_until(KeyDestroyed, lambda: ring.unseal(envelope.key_id, sealed, context=context))


async def test_while_the_keys_are_away_chats_are_answered_and_votes_of_new_people_are_refused(tmp_path: Path) -> None:
    infra = {"keyring_url": f"postgresql+psycopg://me:x@127.0.0.1:{free_port()}/keys"}
    async with open_scene(tmp_path, infra=infra) as scene:
        answer = await scene.chat(**MIA)
        assert answer.status_code == 200
        assert await vote(scene, answer.json()["id"]) == 503
        await scene.until_metric("thumbwheel_gateway_events_lost_total 1.0\n")
