"""What can be read from the log, and what is said about the rest."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from feedback.errors import Undecodable
from feedback.intake.decode import decode
from feedback.votes import Answered, Vote
from infra.envelopes import Sealer
from infra.eventlog.base import Record
from infra.keystore.sqlite import SqliteKeyStore
from infra.sealing import KeyDestroyed, Keyring
from tests.support.events import TENANT, make_feedback, make_inference, make_record, make_sealer


@pytest.fixture
def sealer(tmp_path: Path) -> Sealer:
    return make_sealer(tmp_path)


def changed(record: Record, **fields: object) -> Record:
    return replace(record, value=json.dumps({**json.loads(record.value), **fields}).encode())


def reason(record: Record, sealer: Sealer) -> str:
    with pytest.raises(Undecodable) as error:
        decode(record, sealer)
    return str(error.value)


def test_an_inference_and_a_vote_are_read_back_as_they_were_written(sealer: Sealer) -> None:
    answered, vote = (decode(make_record(sealer, body), sealer) for body in (make_inference(), make_feedback()))
    assert isinstance(answered, Answered)
    assert isinstance(vote, Vote)
    assert (answered.body, vote.body) == (make_inference(), make_feedback())


def test_fields_of_a_newer_minor_are_ignored(sealer: Sealer) -> None:
    record = changed(make_record(sealer, make_feedback()), schema_version="1.7", mood="sunny")
    assert isinstance(decode(record, sealer), Vote)


def test_an_unknown_major_is_refused_with_both_versions_named(sealer: Sealer) -> None:
    found = reason(changed(make_record(sealer, make_feedback()), schema_version="2.0"), sealer)
    assert "schema_version 2.0 is not readable by 1.0" in found


def test_bytes_that_are_no_envelope_are_refused(sealer: Sealer) -> None:
    record = replace(make_record(sealer, make_feedback()), value=b"\xff\xfe not JSON")
    assert reason(record, sealer).startswith("envelope: ")


def test_a_body_that_was_tampered_with_is_refused(sealer: Sealer) -> None:
    record = make_record(sealer, make_feedback())
    assert "does not open" in reason(changed(record, sealed="A" * 80), sealer)


def test_a_key_that_this_keyring_never_had_is_refused(sealer: Sealer) -> None:
    assert "no data key" in reason(changed(make_record(sealer, make_feedback()), key_id="made-up"), sealer)


def test_an_envelope_moved_to_another_event_is_refused(sealer: Sealer) -> None:
    other = json.loads(make_record(sealer, make_feedback(), "other").value)["event_id"]
    assert "does not open" in reason(changed(make_record(sealer, make_feedback()), event_id=other), sealer)


def test_a_body_of_the_wrong_kind_is_refused_without_quoting_it(sealer: Sealer) -> None:
    record = make_record(sealer, make_feedback(comment="what only Ada may read"))
    misplaced = replace(record, position=replace(record.position, topic="thumbwheel.inference.v1"))
    found = reason(misplaced, sealer)
    assert "alias: Field required" in found
    assert "Ada" not in found


def test_a_refusal_names_the_tenant_once_the_envelope_could_be_read(sealer: Sealer) -> None:
    with pytest.raises(Undecodable) as error:
        decode(changed(make_record(sealer, make_feedback()), key_id="made-up"), sealer)
    assert error.value.tenant == TENANT


def test_a_reference_to_a_lost_artifact_is_refused(tmp_path: Path) -> None:
    sealer = make_sealer(tmp_path, inline_limit=10)
    record = make_record(sealer, make_inference())
    for file in (tmp_path / "artifacts" / "bodies").rglob("*"):
        if file.is_file():
            file.unlink()
    assert "not in the artifact store" in reason(record, sealer)


def test_an_erased_persons_event_is_no_dead_letter(sealer: Sealer, tmp_path: Path) -> None:
    record = make_record(sealer, make_feedback(), rater="ada")
    Keyring(SqliteKeyStore(tmp_path / "keyring.db")).destroy(TENANT, "ada")
    with pytest.raises(KeyDestroyed):
        decode(record, make_sealer(tmp_path))
