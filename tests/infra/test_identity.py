from datetime import timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.clock import now
from infra.identity import BadToken, FeedbackGrant, Identity, key_hash, new_key

IDENTITY = Identity(b"a secret of the tests")
STRANGER = Identity(b"another secret")
GRANT = FeedbackGrant("default", "chatcmpl-1", "rater")


def test_a_response_handle_belongs_to_the_tenant_it_was_minted_for() -> None:
    handle = IDENTITY.new_response_id("default")
    assert IDENTITY.owns("default", handle)
    assert not IDENTITY.owns("other", handle)


def test_a_handle_of_another_installation_is_not_ours() -> None:
    assert not IDENTITY.owns("default", STRANGER.new_response_id("default"))


@given(st.text())
def test_made_up_handles_are_refused(handle: str) -> None:
    assert not IDENTITY.owns("default", handle)


def test_handles_are_unique_and_grow_with_time() -> None:
    handles = [IDENTITY.new_response_id("default") for _ in range(1000)]
    assert len(set(handles)) == 1000
    assert handles == sorted(handles, key=lambda handle: handle[:41])


def test_a_rater_is_the_same_hash_each_time_and_another_in_another_tenant() -> None:
    assert IDENTITY.rater("a", "mia") == IDENTITY.rater("a", "mia")
    assert len({IDENTITY.rater("a", "mia"), IDENTITY.rater("b", "mia"), STRANGER.rater("a", "mia")}) == 3
    assert "mia" not in IDENTITY.rater("a", "mia")


def test_assignment_is_sticky_and_even() -> None:
    fractions = [IDENTITY.fraction("salt", f"user-{n}") for n in range(4000)]
    assert fractions == [IDENTITY.fraction("salt", f"user-{n}") for n in range(4000)]
    assert 0.22 < sum(value < 0.25 for value in fractions) / 4000 < 0.28


def test_another_salt_is_another_assignment() -> None:
    assert IDENTITY.fraction("one", "user") != IDENTITY.fraction("two", "user")


def test_a_signed_token_says_what_it_grants() -> None:
    assert IDENTITY.verify(IDENTITY.sign(GRANT, ttl_s=60)) == GRANT


def test_an_expired_token_is_refused() -> None:
    token = IDENTITY.sign(GRANT, ttl_s=60, at=now() - timedelta(seconds=120))
    with pytest.raises(BadToken, match="expired"):
        IDENTITY.verify(token)


def test_a_token_signed_elsewhere_is_refused() -> None:
    with pytest.raises(BadToken):
        IDENTITY.verify(STRANGER.sign(GRANT, ttl_s=60))


def test_a_token_whose_claims_were_changed_is_refused() -> None:
    header, _, signature = IDENTITY.sign(GRANT, ttl_s=60).split(".")
    _, claims, _ = IDENTITY.sign(FeedbackGrant("other", "chatcmpl-2", "eve"), ttl_s=60).split(".")
    with pytest.raises(BadToken):
        IDENTITY.verify(f"{header}.{claims}.{signature}")


def test_an_unsigned_token_is_refused() -> None:
    import jwt

    claims = {"aud": "thumbwheel-feedback", "exp": now().timestamp() + 60, "t": "default", "r": "x", "u": None}
    with pytest.raises(BadToken):
        IDENTITY.verify(jwt.encode(claims, None, algorithm="none"))


@given(st.text())
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        IDENTITY.verify(token)


def test_keys_are_long_different_and_kept_as_hashes() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert len(first) > 40
    assert key_hash(first) != key_hash(second)
    assert first not in key_hash(first)


def test_an_erasure_is_found_again_by_its_handle_and_only_by_its_tenant() -> None:
    erasure_id = uuid4()
    handle = IDENTITY.erasure_handle("default", erasure_id)
    assert IDENTITY.erasure_id("default", handle) == erasure_id
    assert IDENTITY.erasure_id("other", handle) is None
    assert STRANGER.erasure_id("default", handle) is None


@given(st.text())
def test_made_up_erasures_are_refused(handle: str) -> None:
    assert IDENTITY.erasure_id("default", handle) is None


def test_a_handle_of_a_response_is_none_of_an_erasure() -> None:
    unique = IDENTITY.new_response_id("default").removeprefix("chatcmpl-")
    assert IDENTITY.erasure_id("default", f"erasure-{unique}") is None
