"""Who has to say yes before something is trained on."""

from feedback.judgements.consent import Said, covers

YES = Said("ada", train=True, explicit=True)
BY_DEFAULT = Said("ada", train=True, explicit=False)
SILENT = Said("ada", train=False, explicit=False)
NO = Said("ada", train=False, explicit=True)


def other(said: Said, rater: str | None = "bob") -> Said:
    return Said(rater, said.train, said.explicit)


def test_two_people_must_both_allow_it() -> None:
    assert covers(YES, other(YES))
    assert not covers(YES, other(SILENT))
    assert not covers(SILENT, other(YES))


def test_the_same_persons_yes_covers_both_halves() -> None:
    assert covers(YES, SILENT)
    assert covers(SILENT, YES)


def test_an_explicit_no_wins_over_the_same_persons_yes() -> None:
    assert not covers(YES, NO)
    assert not covers(NO, YES)


def test_an_explicit_no_wins_over_a_default_yes() -> None:
    assert not covers(BY_DEFAULT, NO)
    assert not covers(other(NO), BY_DEFAULT)


def test_a_default_yes_is_enough_where_nobody_objects() -> None:
    assert covers(BY_DEFAULT, other(BY_DEFAULT))


def test_two_events_that_name_nobody_are_not_taken_for_one_person() -> None:
    assert not covers(other(YES, None), other(SILENT, None))
    assert covers(other(YES, None), other(YES, None))
