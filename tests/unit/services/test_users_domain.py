"""The rules of users."""

from __future__ import annotations

import pytest

from services.rules import Invalid
from services.users import domain
from tests.builders import NOON, a_user


@pytest.mark.parametrize("email", ["alice@example.com", "  Alice@Example.COM ", "a.b+c@sub.example.org"])
def test_email_is_stripped_and_lowered(email):
    assert domain.normal_email(email) == email.strip().lower()


NO_ADDRESSES = ["", "alice", "@example.com", "a@", "a b@example.com", "a@exa mple.com", "a@.com", "a..b@c.d"]
NO_ADDRESSES += [
    "=?utf-8?q?a=0a?=@example.com",
    "=??b??=@x.com",
    "\ud800@example.com",
    "x" * 250 + "@example.com",
    "a@b\nBcc: c@d",
]


@pytest.mark.parametrize("email", [*NO_ADDRESSES, 7, None])
def test_malformed_email_is_refused(email):
    with pytest.raises(Invalid) as refused:
        domain.normal_email(email)
    assert refused.value.field == "email"


@pytest.mark.parametrize("password", ["short", "x" * 129, None, 12345678])
def test_password_of_a_wrong_length_is_refused(password):
    with pytest.raises(Invalid) as refused:
        domain.checked_password(password)
    assert refused.value.field == "password"


@pytest.mark.parametrize("name", ["", "   ", "x" * 201, None, "two\nlines", "\ud800", "\0"])
def test_malformed_name_is_refused(name):
    with pytest.raises(Invalid) as refused:
        domain.new_user(user_id="U1", name=name, email="a@example.com", now=NOON)
    assert refused.value.field == "name"


def test_change_raises_the_version_and_keeps_other_fields():
    user = domain.changed(a_user(version=1), email="New@Example.com")
    assert (user.name, user.email, user.version) == ("Alice", "new@example.com", 2)
