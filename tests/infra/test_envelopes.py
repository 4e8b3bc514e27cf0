from pathlib import Path
from uuid import uuid4

import pytest

from infra.contracts.base import UnsupportedVersion
from infra.contracts.events import Envelope, Feedback, Item, vote_key
from infra.envelopes import Header
from infra.ports import Ports
from infra.sealing import KeyDestroyed, SealBroken
from tests.support.events import make_envelope, make_feedback, make_sealer
from tests.support.home import make_ports


@pytest.fixture
def ports(tmp_path: Path) -> Ports:
    return make_ports(tmp_path)


def thumbs(**overrides: object) -> Feedback:
    fields: dict[str, object] = {"kind": "thumbs", "name": "thumbs", "response_id": "chatcmpl-1", "value": True}
    return Feedback.model_validate(fields | overrides)


def test_a_body_survives_the_journey_over_the_wire(ports: Ports) -> None:
    envelope = ports.sealer.wrap(thumbs(comment="good one"), Header("default", "rater"))
    arrived = Envelope.model_validate_json(envelope.model_dump_json())
    assert ports.sealer.open(arrived, Feedback) == thumbs(comment="good one")


def test_the_envelope_shows_nothing_of_the_body(ports: Ports) -> None:
    envelope = ports.sealer.wrap(thumbs(comment="a secret thought"), Header("default", "rater"))
    assert b"secret" not in envelope.model_dump_json().encode() + envelope.sealed


def test_a_given_event_id_is_kept(ports: Ports) -> None:
    event_id = uuid4()
    assert ports.sealer.wrap(thumbs(), Header("default", event_id=event_id)).event_id == event_id


def test_a_body_put_into_another_envelope_does_not_open(ports: Ports) -> None:
    envelope = ports.sealer.wrap(thumbs(), Header("default", "rater"))
    with pytest.raises(SealBroken):
        ports.sealer.open(envelope.model_copy(update={"event_id": uuid4()}), Feedback)


def test_a_large_body_goes_to_the_artifact_store_and_comes_back(tmp_path: Path) -> None:
    ports = make_ports(tmp_path, THUMBWHEEL_GATEWAY__INLINE_BODY_LIMIT="1000")
    envelope = ports.sealer.wrap(thumbs(comment="x" * 5000), Header("default", "rater"))
    assert len(envelope.sealed) < 200
    assert ports.sealer.open(envelope, Feedback).comment == "x" * 5000


def test_an_erased_persons_events_cannot_be_opened(ports: Ports) -> None:
    envelope = ports.sealer.wrap(thumbs(), Header("default", "rater"))
    ports.keyring.destroy("default", "rater")
    with pytest.raises(KeyDestroyed):
        ports.sealer.open(envelope, Feedback)


def test_unknown_fields_and_newer_minors_are_read(ports: Ports) -> None:
    document = ports.sealer.wrap(thumbs(), Header("default")).model_dump(mode="json")
    read = Envelope.model_validate(document | {"schema_version": "1.7", "colour": "green"})
    assert read.schema_version == "1.7"


def test_an_unknown_major_is_refused(ports: Ports) -> None:
    document = ports.sealer.wrap(thumbs(), Header("default")).model_dump(mode="json")
    with pytest.raises((UnsupportedVersion, ValueError), match=r"2\.0 is not readable"):
        Envelope.model_validate(document | {"schema_version": "2.0"})


def test_a_vote_that_points_at_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a response_id"):
        thumbs(response_id=None)


def test_a_comparison_is_one_vote_whichever_side_comes_first() -> None:
    a, b = Item(response_id="chatcmpl-1"), Item(response_id="chatcmpl-2", index=1)
    there = Feedback(kind="comparison", name="overall", groups=[[a], [b]], value="a")
    back = Feedback(kind="comparison", name="overall", groups=[[b], [a]], value="b")
    assert vote_key("rater", there) == vote_key("rater", back)


def test_votes_differ_by_rater_target_index_and_name() -> None:
    votes = [thumbs(), thumbs(index=1), thumbs(response_id="chatcmpl-2"), thumbs(kind="custom", name="tone")]
    keys = {vote_key("rater", vote) for vote in votes} | {vote_key("other", votes[0])}
    assert len(keys) == 5


def test_a_body_that_is_said_to_lie_elsewhere_does_not_open(tmp_path: Path) -> None:
    sealer = make_sealer(tmp_path, inline_limit=10)
    mine, other = (make_envelope(sealer, make_feedback()) for _ in range(2))
    with pytest.raises(SealBroken, match="lie"):
        sealer.open(mine.model_copy(update={"sealed": other.sealed}), Feedback)
