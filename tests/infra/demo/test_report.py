import json
import re
from pathlib import Path

from rich.console import Console

from infra.demo.assistant import Tally
from infra.demo.report import render, summary, write_report
from infra.demo.results import Results
from infra.demo.telling import lineage, tell
from tests.support.demo import make_examination, make_story, make_turn

REQUIRED = {
    "setup_s", "wall_s", "stages", "base", "last_vs_first", "requests", "failed_requests", "mixed_version_answers",
    "votes_acknowledged", "votes_stored", "cycles", "rollback_ms",
}  # fmt: skip
REQUIRED_OF_A_CYCLE = {
    "cycle", "version", "dataset_sha256", "pairs", "reward_accuracy", "kl", "mean_length", "gold_win_rate",
    "gold_win_rate_ci", "correct_rate", "gates", "swap_ms", "seconds",
}  # fmt: skip


def make_results(**overrides: object) -> Results:
    return tell(make_story(**overrides), make_examination())


def test_the_document_has_every_promised_key(tmp_path: Path) -> None:
    write_report(make_results(), tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert set(document) >= REQUIRED
    assert set(document["base"]) >= {"correct_rate", "mean_length", "greedy_win_rate"}
    assert set(document["last_vs_first"]) == {"win_rate", "ci"}
    assert set(document["cycles"][0]) >= REQUIRED_OF_A_CYCLE


def test_a_version_that_lost_its_hedges_wins_against_the_base() -> None:
    (cycle,) = make_results().cycles
    assert (cycle.gold_win_rate, cycle.correct_rate, cycle.correct_drop) == (1, 1, 0)
    assert (cycle.pairs, cycle.reward_accuracy, cycle.kl, cycle.swap_ms) == (200, 0.8, 0.4, 120)
    assert cycle.seconds == 6
    assert cycle.gates == {"judge": "pass"}


def test_the_base_decoded_greedily_is_compared_with_itself_sampled() -> None:
    base = make_results().base
    assert (base.greedy_win_rate, base.greedy_correct_rate, base.styles["hedging"]) == (1, 1, 1)


def test_with_one_cycle_the_last_against_the_first_is_even() -> None:
    assert make_results().last_vs_first.win_rate == 0.5


def test_a_declined_cycle_keeps_the_base_served_and_has_no_swap() -> None:
    declined = make_turn(swap=None, decision="declined")
    (cycle,) = make_results(turns=[declined], served=["base"]).cycles
    assert (cycle.swap_ms, cycle.served, cycle.gold_win_rate) == (None, "base", 0.5)
    assert cycle.version == "assistant-1-abc"


def test_a_cycle_that_made_no_version_is_reported_all_the_same() -> None:
    failed = make_turn(
        cycle={"version": None, "state": "failed", "reason": "no rows"}, dataset=None, adapter=None, gates=[], swap=None
    )
    (cycle,) = make_results(turns=[failed], served=["base"]).cycles
    assert (cycle.version, cycle.state, cycle.pairs, cycle.dataset_sha256) == (None, "failed", 0, None)


def test_failures_and_refused_votes_are_counted_and_named() -> None:
    tally = Tally(requests=5, failures=["503"], mixed=["two"], refused=["thumbs: 400"])
    tally.acknowledged["comparison"] = 7
    results = make_results(tally=tally)
    assert (results.requests, results.failed_requests, results.mixed_version_answers) == (5, 1, 1)
    assert (results.votes_acknowledged, results.votes_refused) == (7, 1)
    assert results.failures == ["503", "two", "thumbs: 400"]


def test_the_lineage_goes_back_to_the_base() -> None:
    first, second = make_turn("v1"), make_turn("v2")
    assert second.adapter is not None
    second.adapter["manifest"]["parent"] = "v1"
    assert [step["version"] for step in lineage([first, second], "v2")] == ["v2", "v1", "base"]
    assert [step["version"] for step in lineage([first, second], "base")] == ["base"]


def test_the_page_needs_nothing_from_anywhere_else() -> None:
    page = render(make_results())
    body = page.split("</script>", 1)[1]  # plotly itself names map servers that our charts never ask
    assert not re.findall(r'(?:src|href)\s*=\s*["\']?(?:https?:)?//', body)
    assert "<link" not in body


def test_the_page_shows_all_that_was_promised() -> None:
    page = render(make_results())
    for title in (
        "Win rate",
        "Right answers",
        "Style",
        "Reward accuracy",
        "KL",
        "Length",
        "Swap",
        "Gates",
        "Before and after",
    ):
        assert title in page
    assert "assistant-1-abc" in page
    assert page.count("<blockquote") == 6
    assert "$" not in page.split("<body>")[1].split("<script")[0]


def test_what_models_say_is_escaped() -> None:
    text = "What is math.cos?"
    story = make_story()
    story.answers["assistant-1-abc"] = {**story.answers["assistant-1-abc"], text: ["<script>alert(1)</script>"]}
    assert "<script>alert" not in render(tell(story, make_examination()))


def test_the_summary_has_a_row_per_cycle() -> None:
    console = Console(width=160)
    with console.capture() as captured:
        console.print(summary(make_results()))
    assert "assistant-1-abc" in captured.get()
