"""Check questions tell how far a rater can be trusted, and nothing is ever trained on them."""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.errors import NoRows
from infra.checks import Planting, make_planting
from infra.contracts.events import INFERENCE_TOPIC, Consent, Feedback
from infra.contracts.manifests import DatasetManifest
from infra.identity import Identity
from infra.registry import fleet
from tests.support.checks import BAD, GOOD, make_question
from tests.support.events import TENANT, make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import ALIAS, Event, Room, a_days_events

IDENTITY = Identity(b"secret")
PLANTED = "What is planted here, number {}?"
TRUSTED, ERRING = "rater-right", "rater-wrong"


def plant(room: Room, count: int = 1, **question: Any) -> list[Planting]:
    """On the log, as a gateway puts them there."""
    made = []
    for at in range(count):
        asked = make_question(prompt=PLANTED.format(at), **question)
        made.append(make_planting(IDENTITY, TENANT, ALIAS, asked, "ada"))
    events = [one for planting in made for one in planting.events]
    room.append_raw((INFERENCE_TOPIC, body.response_id, room.sealer.wrap(body, header)) for body, header in events)
    return made


def ids(planting: Planting) -> tuple[str, str]:
    """The better answer's, and the worse one's."""
    row = planting.row
    return (row.response_a, row.response_b) if row.better == "a" else (row.response_b, row.response_a)


def votes(plantings: Iterable[Planting], rater: str, *, right: bool, **header: Any) -> Iterator[Event]:
    """Of one who always sees the better answer, or never."""
    for at, planting in enumerate(plantings):
        better, worse = ids(planting)
        body = make_comparison(planting.row.response_a, planting.row.response_b, _side(planting, right))
        assert {item.response_id for item in body.items} == {better, worse}
        yield Event(body, f"check {rater} {at}", {"rater": rater, "occurred_at": moment(60 * at), **header})


def _side(planting: Planting, right: bool) -> str:
    return planting.row.better if right else {"a": "b", "b": "a"}[planting.row.better]


def weights(room: Room, manifest: DatasetManifest) -> dict[str, dict[str, Any]]:
    """The lines of `raters.parquet` by rater, of all segments together."""
    with room.artifacts.open(f"datasets/{TENANT}/{manifest.dataset_id}/weights/raters.parquet") as file:
        return {line["unit"]: line for line in pq.read_table(file).to_pylist() if line["segment"] is None}


def texts_of(room: Room, manifest: DatasetManifest) -> str:
    """All that the rows of a dataset say."""
    found = []
    for file in manifest.files:
        if file.path.endswith(".parquet"):
            with room.artifacts.open(f"datasets/{TENANT}/{manifest.dataset_id}/{file.path}") as opened:
                found.append(str(pq.read_table(opened).to_pylist()))
    return " ".join(found)


def test_who_always_errs_is_found_out_and_who_never_does_is_trusted(room: Room) -> None:
    plantings = plant(room, 12)
    room.append([*a_days_events(), *votes(plantings, TRUSTED, right=True), *votes(plantings, ERRING, right=False)])
    room.consume()
    manifest = room.build()
    raters = weights(room, manifest)
    assert raters[ERRING]["reliability"] < 0.4 < 0.85 < raters[TRUSTED]["reliability"]
    assert raters[ERRING]["factor"] < raters[TRUSTED]["factor"]
    assert {raters[name]["answers"] for name in (ERRING, TRUSTED)} == {12}
    assert manifest.filtered["check_question"] == 24


def test_neither_the_prompt_nor_the_pair_nor_a_correction_of_it_reaches_a_row(room: Room) -> None:
    plantings = plant(room, 3)
    fix = make_feedback(ids(plantings[0])[1], kind="correction", name="correction", value="A planted correction.")
    thumbs = [make_feedback(response, value=True) for response in ids(plantings[1])]
    cast = [Event(body, f"vote {at}", {"rater": TRUSTED}) for at, body in enumerate([fix, *thumbs])]
    room.append([*a_days_events(), *votes(plantings, TRUSTED, right=True), *cast])
    room.consume()
    manifest = room.build()
    said = texts_of(room, manifest)
    assert "Answer number 1." in said  # the search finds what is there
    assert [text for text in ("planted", GOOD, BAD) if text in said] == []
    assert manifest.filtered["check_question"] == 6


def test_checks_alone_make_no_dataset(room: Room) -> None:
    room.append(list(votes(plant(room, 3), TRUSTED, right=True)))
    room.consume()
    with pytest.raises(NoRows, match="check_question"):
        room.build()


def test_an_answer_to_a_check_needs_the_raters_consent_and_nobody_elses(room: Room) -> None:
    plantings = plant(room, 2)
    no = {"consent": Consent(train=False, explicit=True)}
    room.append(
        [*a_days_events(), *votes(plantings, TRUSTED, right=True), *votes(plantings, ERRING, right=False, **no)]
    )
    room.consume()
    manifest = room.build()
    raters = weights(room, manifest)
    assert TRUSTED in raters
    assert ERRING not in raters
    assert manifest.filtered["no_consent"] == 2


def test_votes_on_checks_do_not_bring_a_cycle_nearer(room: Room) -> None:
    room.append(list(votes(plant(room, 5), TRUSTED, right=True)))
    room.consume()
    with room.database.reading() as session:
        assert fleet.counts(session, TENANT, ALIAS).pairs == 0


def test_a_tie_is_neither_right_nor_wrong(room: Room) -> None:
    (planting,) = plant(room)
    tie = make_comparison(*ids(planting), "tie")
    room.append([*a_days_events(), Event(tie, "tie", {"rater": TRUSTED})])
    room.consume()
    manifest = room.build()
    assert manifest.filtered["check_question"] == 1
    assert weights(room, manifest)[TRUSTED]["answers"] == 0


def test_what_is_not_a_planted_pair_tells_nothing_of_a_rater_and_is_not_trained_on(room: Room) -> None:
    """Else whoever compares the better answers of two checks of one prompt would always be right."""
    one, other = plant(room)[0], plant(room, better="Another good answer.")[0]
    chat = make_inference("chat", prompt=PLANTED.format(0), texts=["A real answer."])
    cast: list[Feedback] = [make_comparison(ids(one)[0], ids(other)[0]), make_comparison("chat", ids(one)[1])]
    events = [Event(body, f"odd {at}", {"rater": TRUSTED}) for at, body in enumerate(cast)]
    room.append([*a_days_events(), Event(chat, "chat"), *events])
    room.consume()
    manifest = room.build()
    assert manifest.filtered["check_question"] == 2
    assert weights(room, manifest)[TRUSTED]["answers"] == 0
