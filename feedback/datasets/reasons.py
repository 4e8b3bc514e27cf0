"""Why events made no rows, in words, and what to set where that can be helped."""

from collections.abc import Mapping

HINTS = {
    "no_consent": "set gateway.consent_default, or send metadata.consent_train with chats and consent_train with votes",
    "too_fast": "see feedback.too_fast_share and feedback.too_fast_words_per_second",
    "held_out_prompt": "see feedback.gate_share and feedback.report_share",
    "leaks_from_train": "held-out raters judged what training already has",
    "check_question": "their answers are known: they tell how far a rater is trusted",
    "inference_missing": "their answers have not arrived: is a gateway's spool waiting?",
    "not_stored": "their requests said store: false",
    "shadow": "nobody was shown these answers",
    "not_a_judgement": "comments and custom metrics make no rows",
    "judged_by_itself": "the rater's own thumb or stars on a turn count, not the conversation's",
    "too_many_turns": "does the client send one session_id for everything?",
    "other_criterion": "only comparisons named overall make rows",
    "erased": "the person has been erased",
}


def explain_no_rows(alias: str, votes: int, window_days: float, counts: Mapping[str, int]) -> str:
    """One sentence, then a clause per reason, the most frequent first."""
    if not votes:
        return f"no votes on {alias} in the last {window_days:g} days: rate some answers first"
    parts = []
    for reason, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        hint = f" ({HINTS[reason]})" if reason in HINTS else ""
        parts.append(f"{count} {reason}{hint}")
    return f"none of {votes} votes on {alias} made a row to train on: {'; '.join(parts) or 'all were held out'}"
