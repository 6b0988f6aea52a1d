"""Commands of users: one transaction each, on both databases."""

from __future__ import annotations

import pytest

from services.rules import Invalid
from services.users import commands, domain
from tests.integration.services.published import published, types


@pytest.fixture
def store(users_store):
    return users_store


def register(store, **fields):
    defaults = {"name": "Alice", "email": "alice@example.com", "password": "a long password"}
    return commands.register_user(store, **{**defaults, **fields})


def test_a_user_is_registered_with_the_event_and_can_log_in(store):
    user = register(store, email="Alice@Example.com")
    assert commands.authenticate_user(store, "ALICE@example.com", "a long password") == user
    (event,) = published(store)
    assert event["type"] == "user_registered"
    assert event["data"] == {"user_id": user.id, "name": "Alice", "email": "alice@example.com"}


def test_a_password_is_kept_as_an_argon2id_hash_and_told_to_nobody(store):
    register(store)
    with store.transaction(read_only=True) as tx:
        _, password_hash = tx.credentials("alice@example.com")
    assert password_hash.startswith("$argon2id$")
    assert "a long password" not in str(published(store))


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("alice@example.com", "another password"),
        ("bob@example.com", "a long password"),
        ("alice@example.com", "short"),
        ("no address", "a long password"),
        (None, None),
    ],
)
def test_wrong_credentials_look_all_the_same(store, email, password):
    register(store)
    with pytest.raises(domain.WrongCredentials, match="address or the password is wrong"):
        commands.authenticate_user(store, email, password)


def test_an_address_belongs_to_one_user(store):
    register(store)
    with pytest.raises(domain.EmailTaken):
        register(store, name="Mallory", email="ALICE@example.com")
    assert types(store) == ["user_registered"]


def test_a_repeated_registration_is_the_same_user(store):
    first = register(store, command_id="c-1")
    commands.update_user(store, first.id, name="Somebody else")
    assert register(store, command_id="c-1") == first  # the first answer, whatever has happened since


def test_a_command_with_another_password_is_another_command(store):
    user = register(store, command_id="c-1", password="the first password")
    with pytest.raises(domain.KeyReused):
        register(store, command_id="c-1", password="another password")
    commands.update_user(store, user.id, password="the second password", command_id="c-2")
    commands.update_user(store, user.id, password="the second password", command_id="c-2")
    with pytest.raises(domain.KeyReused):
        commands.update_user(store, user.id, password="the third password", command_id="c-2")
    assert commands.authenticate_user(store, user.email, "the second password")


def test_an_update_tells_what_others_may_know(store):
    user = register(store)
    changed = commands.update_user(store, user.id, name="Alicia")
    assert (changed.name, changed.version) == ("Alicia", 2)
    assert published(store)[-1]["aggregate_version"] == 2
    assert types(store) == ["user_registered", "user_updated"]


def test_a_new_password_is_nobodys_news(store):
    user = register(store)
    commands.update_user(store, user.id, password="another password")
    assert types(store) == ["user_registered"]
    assert commands.authenticate_user(store, user.email, "another password").id == user.id
    with pytest.raises(domain.WrongCredentials):
        commands.authenticate_user(store, user.email, "a long password")


def test_an_address_can_not_be_taken_over(store):
    register(store)
    bob = register(store, name="Bob", email="bob@example.com")
    with pytest.raises(domain.EmailTaken):
        commands.update_user(store, bob.id, email="alice@example.com")


def test_an_empty_or_unknown_update_is_refused(store):
    with pytest.raises(Invalid):
        commands.update_user(store, "U001")
    with pytest.raises(domain.UnknownUser):
        commands.update_user(store, "U001", name="X")


def test_unknown_and_malformed_ids_spoil_no_batch(store):
    user = register(store)
    found, unknown, malformed = commands.get_users(store, [user.id, "U404", 7])
    assert found.unwrap() == user
    assert unknown.error.slug == "not-found"
    assert malformed.error.slug == "validation-failed"
