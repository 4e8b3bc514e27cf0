"""What is asked is what members dispute, few of one prompt, and the same whatever order it comes in."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.artifacts import ArtifactStore
from infra.contracts.queries import Queries, QueryAnswer, queries_path
from tests.support.occasion import OCCASION
from trainer.data import Prompt
from trainer.queries import Candidate, Owner, can_be_shown, choose, disagreement, make_queries, owners, publish

HELLO = Prompt([{"role": "user", "content": "Hello?"}], prompt_id="p1")


def make_candidate(prompt: Prompt = HELLO, a: str = "Good day.", b: str = "Hi.") -> Candidate:
    return Candidate(prompt, QueryAnswer(version="v2", content=a), QueryAnswer(version="v1", content=b))


def test_disagreement_is_the_variance_of_the_predicted_preference() -> None:
    margins_QM = np.array([[np.log(3.0), -np.log(3.0)], [2.0, 2.0], [30.0, 40.0]])
    assert disagreement(margins_QM) == pytest.approx([0.25**2, 0.0, 0.0], abs=1e-12)


def test_members_that_are_far_apart_but_agree_on_the_winner_dispute_little() -> None:
    """Scores differ by more in the first pair, opinions in the second."""
    assert choose(np.array([[5.0, 25.0], [1.0, -1.0]]), ["p1", "p2"], most=1, per_prompt=1) == [1]


def test_the_most_disputed_come_first_and_few_of_one_prompt() -> None:
    margins_QM = np.array([[3.0, -3.0], [2.0, -2.0], [1.0, -1.0], [0.5, -0.5]])
    assert choose(margins_QM, ["p1", "p1", "p2", "p3"], most=3, per_prompt=1) == [0, 2, 3]
    assert choose(margins_QM, ["p1", "p1", "p2", "p3"], most=3, per_prompt=2) == [0, 1, 2]


def test_what_nobody_disputes_is_not_asked() -> None:
    assert choose(np.array([[1.0, 1.0], [0.0, 0.0]]), ["p1", "p2"], most=5, per_prompt=1) == []


@settings(deadline=None)
@given(data=st.data(), pairs=st.integers(1, 12), members=st.integers(1, 4), most=st.integers(0, 6))
def test_the_order_that_pairs_come_in_does_not_matter(data: st.DataObject, pairs: int, members: int, most: int) -> None:
    value = st.integers(-3, 3).map(float)  # so that some are disputed alike
    margins_QM = np.array(
        data.draw(st.lists(st.lists(value, min_size=members, max_size=members), min_size=pairs, max_size=pairs))
    )
    ids = data.draw(st.lists(st.sampled_from(["p1", "p2", "p3"]), min_size=pairs, max_size=pairs))
    order = data.draw(st.permutations(range(pairs)))
    asked = [(ids[q], margins_QM[q].tolist()) for q in choose(margins_QM, ids, most=most, per_prompt=2)]
    shuffled_QM, shuffled = margins_QM[order], [ids[q] for q in order]
    again = [(shuffled[q], shuffled_QM[q].tolist()) for q in choose(shuffled_QM, shuffled, most=most, per_prompt=2)]
    assert asked == again
    assert len(asked) <= most
    assert all(sum(prompt == one for prompt, _ in asked) <= 2 for one in ids)


@pytest.mark.parametrize(
    "candidate",
    [
        make_candidate(a="Hi. "),
        make_candidate(b=" "),
        make_candidate(Prompt([], prompt_id="p1")),
        make_candidate(Prompt(HELLO.messages, tools=[{"type": "function"}], prompt_id="p1")),
        make_candidate(Prompt([{"role": "tool", "content": "42"}], prompt_id="p1")),
        make_candidate(Prompt([{"role": "assistant", "content": ""}], prompt_id="p1")),
    ],
)
def test_what_a_rater_cannot_read_and_compare_is_not_asked(candidate: Candidate) -> None:
    assert can_be_shown(make_candidate())
    assert not can_be_shown(candidate)
    known = {"p1": Owner()}
    assert not make_queries([candidate], np.array([[1.0, -1.0]]), known, OCCASION, most=5).queries


def test_a_question_names_the_owner_of_its_prompt_and_how_far_it_is_disputed() -> None:
    known = owners([{"prompt_id": "p1", "rater": "mia-hash", "segment": "de"}])
    margins_QM = np.array([[np.log(3.0), -np.log(3.0)]])
    made = make_queries([make_candidate()], margins_QM, known, OCCASION, most=5)
    (query,) = made.queries
    assert (query.owner, query.segment, query.prompt) == ("mia-hash", "de", HELLO.messages)
    assert (query.preference, query.disagreement) == pytest.approx((0.5, 0.0625))
    assert (made.members, made.candidates) == (2, 1)


def test_a_prompt_that_no_dataset_has_could_not_be_erased_and_is_not_asked_about() -> None:
    made = make_queries([make_candidate()], np.array([[1.0, -1.0]]), {}, OCCASION, most=5)
    assert (made.queries, made.candidates) == ([], 0)


def test_the_same_pair_is_the_same_question_and_another_text_another() -> None:
    known = {"p1": Owner()}
    ids = [
        make_queries([make_candidate(a=text)], np.array([[1.0, -1.0]]), known, OCCASION, most=1).queries[0].query_id
        for text in ("Good day.", "Good day.", "Good night.")
    ]
    assert ids[0] == ids[1] != ids[2]


def test_what_is_published_is_what_gateways_read(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path))
    made = make_queries([make_candidate()], np.array([[1.0, -1.0]]), {"p1": Owner("mia-hash")}, OCCASION, most=1)
    publish(store, made)
    assert Queries.model_validate_json(store.read(queries_path(made.version))) == made
