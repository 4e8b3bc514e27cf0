"""The page shows each figure with its interval and size, lets no text become markup, and needs nothing else."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from infra.contracts.manifests import Sample
from tests.support.manifests import make_adapter_manifest
from tests.support.reports import make_findings, make_lines, make_results
from trainer.report import report
from trainer.report_page import page

VOID = {"meta", "link", "br", "img", "input"}
SAMPLE = Sample(
    prompt_id="p1",
    prompt=[{"role": "user", "content": "Who is <Mia>?"}],
    candidate="A friend.",
    champion="Nobody.",
    judge_champion=-0.5,
)


class Page(HTMLParser):
    """Its words, its headings, what it would fetch, and whether every element that is opened is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.cells: list[list[str]] = []
        self.headings: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        self.fetched += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<path/>` needs no end."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1].append(data)
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


def shown(found: dict[str, Any] | None = None, *, samples: tuple[Sample, ...] = ()) -> str:
    return page(found or report(make_findings()), {"policy": make_lines(reward=0.5, kl=0.1)}, samples)


def test_the_page_shows_each_figure_with_its_interval_and_size() -> None:
    assert ["KL to the anchor, nats per answer", "1.500", "1.400 to 1.600", "40"] in Page(shown()).cells


def test_the_page_is_whole_and_fetches_nothing() -> None:
    found = Page(shown(samples=(SAMPLE,)))
    assert found.fetched == []
    assert "<script" not in shown()


def test_each_part_of_a_cycle_has_its_place() -> None:
    assert [heading for heading in Page(shown()).headings if heading in PARTS] == PARTS


PARTS = [
    "Gates", "Measured against the champion", "Behaviour", "Reward model", "Training", "Data",
    "Answers before and after", "Cost", "Where it comes from",
]  # fmt: skip


def test_models_that_judge_stand_beside_each_other() -> None:
    cells = Page(shown()).cells
    assert ["reward", "judge"] in cells or ["", "reward", "judge"] in cells
    assert ["pairs", "40", "20"] in cells
    assert ["accuracy", "0.800 (0.700 to 0.900)", "0.800 (0.700 to 0.900)"] in cells


def test_nested_figures_of_a_model_have_a_line_each() -> None:
    metrics = {"reward": {"style_coefficients": {"length": 0.5, "bold": -0.25}, "unknown": None}}
    results = make_results(reward={**make_results()["reward"], "metrics": metrics})
    cells = Page(shown(report(make_findings(results=results)))).cells
    assert ["style_coefficients · length", "0.5"] in cells
    assert ["style_coefficients · bold", "-0.25"] in cells
    assert not any("unknown" in row for row in cells)


def test_columns_of_figures_stand_right_and_words_left() -> None:
    text = shown()
    assert '<th class="n">value</th>' in text
    assert '<td class="n">1.400 to 1.600</td>' in text
    assert f'<td class="">{make_findings().manifest.sha256}</td>' in text


def test_stages_and_models_come_in_the_order_of_a_cycle_however_they_were_stored() -> None:
    stored = json.loads(json.dumps(report(make_findings()), sort_keys=True))
    cells = [row[0] for row in Page(shown(stored)).cells if row]
    stages = re.findall(r'title="(\w+): ', shown(stored))
    assert stages == ["queued", "snapshotting", "sft", "reward", "policy", "evaluating"]
    assert "<th>reward</th><th>judge</th>" in re.sub(' class="n?"', "", shown(stored))
    assert cells.index("anchor") < cells.index("base_revision") < cells.index("sha256")


def test_what_the_manifest_says_of_the_training_is_there_too() -> None:
    assert ["reward", "0.1235"] in Page(shown()).cells


def test_a_stage_is_as_wide_as_its_time() -> None:
    assert '<span style="flex-grow: 4.000" title="snapshotting: 4.0 s">snapshotting</span>' in shown()


def test_every_figure_of_a_training_has_a_chart() -> None:
    assert shown().count("<svg") == 2
    assert "steps 1 to 5" in shown()


def test_what_is_not_known_has_no_line() -> None:
    assert "parent" not in shown()
    later = make_findings(manifest=make_adapter_manifest(cycle_id="7", parent="assistant-6-00000000"))
    assert "assistant-6-00000000" in shown(report(later))


@pytest.mark.parametrize("where", ["anchor", "reward_model", "alias", "method"])
def test_nothing_in_a_manifest_becomes_markup(where: str) -> None:
    manifest = make_adapter_manifest(cycle_id="7", **{where: "<script>alert(1)</script>"})
    text = shown(report(make_findings(manifest=manifest)))
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_an_answer_is_quoted_as_it_stands_beside_the_champion_s() -> None:
    text = shown(samples=(SAMPLE,))
    assert "Who is &lt;Mia&gt;?" in text
    assert text.index("Nobody.") < text.index("A friend.")
    assert "judged -0.50" in text


def test_gates_that_are_not_decided_yet_are_not_passed() -> None:
    assert "Not decided when this page was written" in shown()
    gate = {"name": "judge", "verdict": "inconclusive", "blocking": True, "reason": "0.45 to 0.6"}
    decided = {**report(make_findings()), "gates": {"gates": [gate]}, "state": "awaiting_person"}
    assert ["judge", "inconclusive", "yes", "0.45 to 0.6"] in Page(shown(decided)).cells
    assert "awaiting person" in shown(decided)


def test_a_warning_stands_above_all_figures() -> None:
    found = {**report(make_findings()), "warnings": [{"kind": "one_label", "message": "every vote is <up>"}]}
    assert shown(found).index("every vote is &lt;up&gt;") < shown(found).index("Measured against")


def test_an_empty_cycle_still_has_a_page() -> None:
    found = report(make_findings(results={}, seconds={}, metrics={}))
    assert "Fixed costs" in page(found, {})
