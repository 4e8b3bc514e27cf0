"""One current vote together with the answers it is about, and what it says of them."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from feedback.judgements import conversation
from feedback.judgements.conversation import Message
from feedback.judgements.exchange import Answer, Exchange
from feedback.votes import AI, Vote
from infra.contracts.events import Feedback

TURN_BYTES = 2
GOOD_FROM, BAD_TO = 4, 2  # stars: 4 and 5 are good, 1 and 2 are bad, 3 says nothing


class Verdict(StrEnum):
    ORDERED = "ordered"  # the groups are best first
    TIE = "tie"
    BOTH_BAD = "both_bad"
    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"
    CORRECTED = "corrected"
    NONE = "none"  # a comment or a custom metric: stored, but no judgement of the answer


THUMBS = frozenset({Verdict.GOOD, Verdict.BAD})
COMPARISONS = frozenset({Verdict.ORDERED, Verdict.TIE, Verdict.BOTH_BAD})


@dataclass(frozen=True, slots=True)
class Place:
    """Which turn of a conversation that was judged as a whole, from 1, of how many; `words` are the last answer's."""

    turn: int
    turns: int
    words: int


@dataclass(frozen=True)
class Judgement:
    """`groups` are the answers, best first, ties together. All exchanges have one prompt, or the filters drop it.

    With a `place` it is one turn's part of what was said of a whole conversation.
    """

    vote: Vote
    verdict: Verdict
    exchanges: tuple[Exchange, ...]
    groups: tuple[tuple[Answer, ...], ...]
    place: Place | None = None

    @property
    def exchange(self) -> Exchange:
        return self.exchanges[0]

    @cached_property
    def answers(self) -> tuple[Answer, ...]:
        return tuple(answer for group in self.groups for answer in group)

    def exchange_of(self, answer: Answer) -> Exchange:
        """The one that this answer is of."""
        response_id = answer.ref.rpartition("#")[0]
        return next(one for one in self.exchanges if one.event.body.response_id == response_id)

    @property
    def event_id(self) -> str:
        return self.vote.envelope.event_id.hex

    @property
    def key(self) -> bytes:
        """Tells it from all others: its event, and which turn it is about."""
        return self.vote.envelope.event_id.bytes + (self.place.turn.to_bytes(TURN_BYTES, "big") if self.place else b"")

    @property
    def prompt_id(self) -> str:
        return self.exchange.prompt_id

    @cached_property
    def unit(self) -> str:
        """Who is capped and split as one: the rater; of votes that name nobody, the conversation or the response.

        A model is never one with a person, whatever name it voted under.
        """
        asked = self.exchange.event
        session = self.vote.envelope.session_id or asked.envelope.session_id
        who = self.vote.rater or f"nobody:{session or asked.body.response_id}"
        return f"{AI}{who}" if self.vote.is_ai else who

    @property
    def texts(self) -> list[str]:
        """The hashes of all answers that its rows hold, a correction's own text included."""
        own = [conversation.answer_hash(self.correction)] if self.correction else []
        return [*(answer.digest for answer in self.answers), *own]

    @property
    def correction(self) -> Message | None:
        """The person's own better answer."""
        if self.verdict is not Verdict.CORRECTED:
            return None
        written = conversation.clean({"role": "assistant", "content": str(self.vote.body.value)})
        return None if conversation.is_empty(written) else written

    @property
    def check(self) -> bool | None:
        """Whether a check question was answered right; None where it is none."""
        roles = {exchange.event.body.response_id: exchange.event.body.check for exchange in self.exchanges}
        if not any(roles.values()):
            return None
        best = roles[self.answers[0].ref.rpartition("#")[0]] == "better"
        return (
            best is (self.verdict is Verdict.GOOD)
            if self.verdict in THUMBS
            else best and self.verdict is Verdict.ORDERED
        )

    @property
    def is_of_planted(self) -> bool:
        """Of a check question: about a planted pair, or one side of it; of other pairs nobody knows the better one."""
        roles = sorted(exchange.event.body.check or "" for exchange in self.exchanges)
        return self.verdict in THUMBS or roles == ["better", "worse"]

    @property
    def words(self) -> int:
        """What there was to read before judging."""
        return self.place.words if self.place else sum(conversation.words(answer.message) for answer in self.answers)

    @property
    def is_paired(self) -> bool:
        """Whether its rater's other thumbs on the prompt make preferences with it: what is about this answer alone."""
        return self.verdict in THUMBS and self.vote.rater is not None and self.place is None

    @property
    def first_shown(self) -> str | None:
        """The ref of the answer that was shown first, where the vote says so."""
        body = self.vote.body
        if body.kind != "comparison" or body.shown_first is None:
            return None
        item = body.items[0 if body.shown_first == "a" else 1]
        return f"{item.response_id}#{item.index}"

    @property
    def asked(self) -> tuple[str, ...]:
        """Whose opinion of what; of a turn as a part of its conversation it is another one than of the turn itself."""
        whole = ("conversation",) if self.place else ()
        return (self.unit, self.prompt_id, self.vote.body.name, *whole)

    @property
    def stance(self) -> tuple[str, ...]:
        """Equal where the same person says the same of the same texts, whichever responses they came in."""
        ordered = ("=".join(sorted(answer.digest for answer in group)) for group in self.groups)
        return (*self.asked, self.verdict, *ordered)

    @property
    def claims(self) -> frozenset[tuple[str, str]]:
        """What it holds, as pairs that contradict their own reverse: (better, worse) texts, (good, text)."""
        if self.verdict in (Verdict.GOOD, Verdict.BAD):
            text = self.answers[0].digest
            return frozenset({("", text) if self.verdict is Verdict.BAD else (text, "")})
        return frozenset((better.digest, worse.digest) for better, worse in self.strict)

    @cached_property
    def strict(self) -> list[tuple[Answer, Answer]]:
        """(better, worse) of each strict choice between texts that differ; none where nothing was ordered."""
        if self.verdict is not Verdict.ORDERED:
            return []
        later = [(group, at + 1) for at, group in enumerate(self.groups)]
        pairs = [(b, w) for group, at in later for b in group for rest in self.groups[at:] for w in rest]
        return [(better, worse) for better, worse in pairs if better.digest != worse.digest]


def lone_thumbs(vote: Vote) -> int:
    """How many answers it calls good or bad by themselves; a whole conversation is one.

    A model's votes start no cycle: they count for none.
    """
    if vote.retracted or vote.is_ai:
        return 0
    verdict = verdict_of(vote.body)
    return len(vote.body.items) if verdict is Verdict.BOTH_BAD else int(verdict in THUMBS)


def verdict_of(body: Feedback) -> Verdict:
    """How the value reads; a value that makes no sense for its kind is no verdict."""
    if body.kind == "comparison":
        known = {"a": Verdict.ORDERED, "b": Verdict.ORDERED, "tie": Verdict.TIE, "both_bad": Verdict.BOTH_BAD}
        return known.get(str(body.value), Verdict.NONE)
    if body.kind == "ranking":
        return Verdict.ORDERED if len(body.groups) > 1 else Verdict.TIE
    if body.kind == "thumbs":
        return Verdict.GOOD if body.value else Verdict.BAD
    if body.kind == "rating" and isinstance(body.value, int | float):
        good, bad = body.value >= GOOD_FROM, body.value <= BAD_TO
        return Verdict.GOOD if good else Verdict.BAD if bad else Verdict.NEUTRAL
    return Verdict.CORRECTED if body.kind == "correction" else Verdict.NONE
