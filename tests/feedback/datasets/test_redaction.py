"""What reaches a person by itself is taken out of texts, counted by kind, and nothing else is."""

import pyarrow.parquet as pq
import pytest

from feedback.datasets.redaction import Redactor
from infra.clock import now
from tests.support.events import make_choice, make_comparison, make_feedback, make_inference
from tests.support.feedback import Event, Room
from tests.support.people import others_day, yesterday

CONTACT = "Write to mia.lantern@example.org or call +49 30 901820."


@pytest.mark.parametrize(
    ("text", "kind", "left"),
    [
        ("Write to mia.lantern+x@mail.example.org, please.", "email", "Write to [email], please."),
        ("Call +49 30 901820 now", "phone", "Call [phone] now"),
        ("Pay to DE89 3704 0044 0532 0130 00 today", "iban", "Pay to [iban] today"),
        ("Card 4111 1111 1111 1111, thanks", "card", "Card [card], thanks"),
        ("From 192.168.17.4 again", "ip", "From [ip] again"),
        ("From 2001:db8:0:1::17 again", "ip", "From [ip] again"),
    ],
)
def test_each_kind_is_found_and_named(text: str, kind: str, left: str) -> None:
    assert Redactor().text(text) == (left, {kind: 1})


@pytest.mark.parametrize(
    "text",
    [
        "What does math.cos do?",
        "x[::2] and std::vector<int> at 12:30:45",
        "The order 4111 1111 1111 1112 has no such check digit.",
        "GB82 WEST 1234 5698 7654 33 is no account.",
        "In 1999, 2000 and 2001 there were 300.5 of them.",
        "Version 1.2.3 of 2026-03-10T12:00:00",
        "@mia said so",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert Redactor().text(text) == (text, {})


def test_national_numbers_are_found_where_the_country_is_told() -> None:
    assert Redactor().text("Ruf 030 901820 an")[1] == {}
    assert Redactor("DE").text("Ruf 030 901820 an") == ("Ruf [phone] an", {"phone": 1})


def test_several_in_one_text_are_all_taken_out() -> None:
    assert Redactor().text("a@b.org, c@d.org and 10.0.0.1")[0] == "[email], [email] and [ip]"


def test_messages_are_redacted_however_deep_and_their_roles_and_ids_are_not() -> None:
    call = {"id": "call@1.org", "type": "function", "function": {"name": "mail", "arguments": '{"to": "a@b.org"}'}}
    message = {"role": "assistant", "content": [{"type": "text", "text": CONTACT}], "tool_calls": [call]}
    body, found = Redactor().inference(make_inference(choices=[make_choice(message=message)], prompt="To a@b.org?"))
    assert body.request["messages"][0]["content"] == "To [email]?"
    redacted = body.choices[0].message
    assert redacted is not None
    assert redacted["content"][0]["text"] == "Write to [email] or call [phone]."
    assert redacted["tool_calls"][0] == {**call, "function": {"name": "mail", "arguments": '{"to": "[email]"}'}}
    assert found == {"email": 3, "phone": 1}


def test_of_votes_only_corrections_make_rows() -> None:
    fix, counted = Redactor().feedback(make_feedback(kind="correction", name="correction", value=CONTACT))
    assert (fix.value, counted) == ("Write to [email] or call [phone].", {"email": 1, "phone": 1})
    thumb = make_feedback(comment=CONTACT)
    assert Redactor().feedback(thumb) == (thumb, {})


def contacts(room: Room) -> None:
    header = {"rater": "rater-9", "occurred_at": yesterday()}
    chats = [Event(make_inference(r, prompt=CONTACT, texts=[f"Answer {r}."]), r, header) for r in ("c1", "c2")]
    room.append([*others_day(), *chats, Event(make_comparison("c1", "c2"), "choice c", header)])
    room.consume()


def words(room: Room, dataset_id: str) -> str:
    directory = room.artifacts.local_path(f"datasets/default/{dataset_id}")
    files = [*(directory / "preference").rglob("*.parquet"), *(directory / "prompts").rglob("*.parquet")]
    return " ".join(str(pq.read_table(file).to_pylist()) for file in files)


def test_a_dataset_is_redacted_where_that_is_set_and_says_how_often(room: Room) -> None:
    contacts(room)
    plain = room.build(as_of=now())
    assert plain.redacted == {}
    assert "mia.lantern@example.org" in words(room, plain.dataset_id)
    redacted = room.build(as_of=now(), redact_pii=True)
    assert redacted.redacted == {"email": 2, "phone": 2}
    assert redacted.counts == plain.counts
    assert "mia.lantern" not in words(room, redacted.dataset_id)
    assert "901820" not in words(room, redacted.dataset_id)


def test_the_counts_are_kept_for_days_that_are_not_looked_at_again(room: Room) -> None:
    contacts(room)
    first = room.build(as_of=now(), redact_pii=True)
    second = room.build(as_of=now(), redact_pii=True)
    assert second.redacted == first.redacted
    assert second.sha256 == first.sha256
