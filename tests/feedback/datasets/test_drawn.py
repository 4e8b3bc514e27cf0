"""How a lone answer was drawn is kept beside what people said of it, and goes where they go."""

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.datasets import rows as tables
from feedback.datasets.pairs import make_rows
from feedback.datasets.redaction import Redactor
from feedback.datasets.rows import Table
from infra.clock import now
from infra.contracts.manifests import DatasetManifest, Voting
from tests.support.events import TENANT, make_choice, make_comparison, make_feedback, make_inference, moment
from tests.support.feedback import AS_OF, Event, Room, a_days_events, make_exchanges, make_judgement
from tests.support.people import MIA, mias_day, others_day, yesterday

HERS = [7001, 7002, 7003]


def unpaired(**inference: Any) -> dict[str, Any]:
    judgement = make_judgement(make_feedback("r1"), inference=inference)
    return next(dict(row.values) for row in make_rows([judgement]) if row.table is Table.UNPAIRED)


def stored(room: Room, manifest: DatasetManifest) -> list[dict[str, Any]]:
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{manifest.dataset_id}")
    files = sorted((directory / "unpaired").rglob("*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def test_a_thumbs_row_has_all_that_an_importance_weight_needs() -> None:
    choices = [make_choice(token_ids=[5, 6, 7], arm="challenger", arm_propensity=0.05, version="v2")]
    row = unpaired(choices=choices, prompt_token_ids=[1, 2], template_hash="abc")
    assert (list(row["prompt_token_ids"]), list(row["completion_token_ids"])) == ([1, 2], [5, 6, 7])
    assert (row["arm"], row["arm_propensity"], row["feedback_kind"]) == ("challenger", 0.05, "thumbs")
    assert (row["base_revision"], row["template_hash"]) == ("base-revision", "abc")
    assert json.loads(row["sampling"]) == {"temperature": 0.7, "top_p": 1.0}


def test_tokens_that_have_not_all_a_log_probability_are_left_out() -> None:
    assert unpaired(choices=[make_choice(token_ids=[5, 6, 7], logprobs=[-0.5])])["completion_token_ids"] is None


def test_of_both_bad_answers_each_has_its_own_tokens_and_says_that_it_was_a_comparison() -> None:
    inference = {"choices": [make_choice(token_ids=[8, 9], logprobs=[-1.0, -1.0])]}
    judgement = make_judgement(make_comparison(choice="both_bad"), inference=inference)
    bad = [row.values for row in make_rows([judgement]) if row.table is Table.UNPAIRED]
    assert [list(row["completion_token_ids"]) for row in bad] == [[8, 9], [8, 9]]
    assert {row["feedback_kind"] for row in bad} == {"comparison"}


def test_of_sampling_parameters_that_may_quote_somebody_only_the_name_is_kept() -> None:
    request = {"messages": [{"role": "user", "content": "?"}], "tool_choice": "required",
               "response_format": {"type": "json_schema", "json_schema": {"name": "Mia"}}}  # fmt: skip
    sampling = {"temperature": 0.0, "stop": ["Mia"], "logit_bias": {"5": 1}, "bad_words": [], "max_tokens": None}
    found = json.loads(make_exchanges(make_inference(request=request, sampling=sampling))[0].sampling)
    assert found == {
        "temperature": 0.0, "stop": True, "logit_bias": True, "tool_choice": "required",
        "response_format": "json_schema",
    }  # fmt: skip


def test_where_something_was_taken_out_of_a_text_its_tokens_go_too() -> None:
    choices = [make_choice("Ask a@b.org.", index=0), make_choice("Ask them.", index=1)]
    body, _ = Redactor().inference(make_inference(prompt="Who is c@d.org?", choices=choices))
    assert body.prompt_token_ids == []
    assert [choice.token_ids for choice in body.choices] == [[], [5, 6, 7]]
    kept, _ = Redactor().inference(make_inference())
    assert kept.prompt_token_ids == [1, 2, 3]


def test_files_of_an_older_kind_of_rows_are_not_mixed_with_new_ones(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.append(a_days_events())
    room.consume()
    with monkeypatch.context() as older:
        older.setattr(tables, "VERSION", 1)
        older.setitem(tables.EXTRA, Table.UNPAIRED, [("label", tables.pa.bool_())])
        parent = room.build()
    assert "completion_token_ids" not in stored(room, parent)[0]
    second = room.build(as_of=AS_OF.replace(minute=1))
    assert second.parent == parent.dataset_id
    assert {tuple(row["completion_token_ids"]) for row in stored(room, second)} == {(5, 6, 7)}


def test_an_erased_persons_token_ids_leave_the_files_that_have_them(room: Room) -> None:
    header = {"rater": MIA, "occurred_at": yesterday(30)}
    chat = make_inference("hers", prompt="Hers?", prompt_token_ids=HERS, choices=[make_choice(token_ids=HERS)])
    thumb = Event(make_feedback("hers"), "her thumb", header)
    room.append([*mias_day(), *others_day(), Event(chat, "hers", header), thumb])
    room.consume()
    before = room.build(as_of=now())
    assert HERS in [row["completion_token_ids"] for row in stored(room, before)]
    room.erase(MIA)
    room.consume()
    assert room.eraser().turn() == 1
    assert HERS not in [row["completion_token_ids"] for row in stored(room, before)]


def test_a_manifest_says_how_many_answers_could_be_rated_and_how_many_thumbs_they_got(room: Room) -> None:
    base = [Event(make_inference(f"b{at}"), f"b{at}") for at in range(4)]
    tuned = [Event(make_inference("v", choices=[make_choice(version="v1")]), "v")]
    hidden = [Event(make_inference("h", rateable=False), "h"), Event(make_feedback("h"), "on h")]
    votes = [
        Event(make_feedback("b0"), "up"),
        Event(make_feedback("b1", value=False), "down"),
        Event(make_feedback("b2", kind="rating", name="rating", value=3), "neither"),
        Event(make_feedback("v", value=True), "by a model", {"source": "ai"}),
        Event(make_comparison("b0", "b1"), "choice"),
    ]
    room.append([*base, *tuned, *hidden, *votes])
    room.consume()
    assert room.build().voting == {"base": Voting(answers=4, votes=2), "v1": Voting(answers=1, votes=0)}


def test_the_counts_of_days_that_are_not_opened_again_are_kept(room: Room) -> None:
    room.append(a_days_events())
    room.consume()
    first = room.build()
    late = {"rater": "rater-1", "occurred_at": moment(-86400)}
    room.append([Event(make_inference("late"), "late", late), Event(make_feedback("late"), "late thumb", late)])
    room.consume()
    second = room.build(as_of=AS_OF.replace(minute=1))
    assert first.voting["base"].answers == 40
    assert second.voting["base"].answers == 41
    assert second.voting["base"].votes == first.voting["base"].votes + 1
