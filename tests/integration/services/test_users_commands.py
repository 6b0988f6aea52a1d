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


def test_registered_user_can_log_in_and_is_published(store):
    user = register(store, email="Alice@Example.com")
    assert commands.authenticate_user(store, "ALICE@example.com", "a long password") == user
    (event,) = published(store)
    assert event["type"] == "user_registered"
    assert event["data"] == {"user_id": user.id, "name": "Alice", "email": "alice@example.com"}


def test_password_is_kept_as_argon2id_hash_and_never_published(store):
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
def test_all_wrong_credentials_raise_the_same_error(store, email, password):
    register(store)
    with pytest.raises(domain.WrongCredentials, match="address or the password is wrong"):
        commands.authenticate_user(store, email, password)


def test_email_of_another_user_is_refused(store):
    register(store)
    with pytest.raises(domain.EmailTaken):
        register(store, name="Mallory", email="ALICE@example.com")
    assert types(store) == ["user_registered"]


def test_repeated_registration_gets_the_first_answer(store):
    first = register(store, command_id="c-1")
    commands.update_user(store, first.id, name="Somebody else")
    assert register(store, command_id="c-1") == first  # the first answer, whatever has happened since


def test_repeated_command_with_another_password_is_refused(store):
    user = register(store, command_id="c-1", password="the first password")
    with pytest.raises(domain.KeyReused):
        register(store, command_id="c-1", password="another password")
    commands.update_user(store, user.id, password="the second password", command_id="c-2")
    commands.update_user(store, user.id, password="the second password", command_id="c-2")
    with pytest.raises(domain.KeyReused):
        commands.update_user(store, user.id, password="the third password", command_id="c-2")
    assert commands.authenticate_user(store, user.email, "the second password")


def test_update_publishes_the_new_name(store):
    user = register(store)
    changed = commands.update_user(store, user.id, name="Alicia")
    assert (changed.name, changed.version) == ("Alicia", 2)
    assert published(store)[-1]["aggregate_version"] == 2
    assert types(store) == ["user_registered", "user_updated"]


def test_password_change_publishes_nothing(store):
    user = register(store)
    commands.update_user(store, user.id, password="another password")
    assert types(store) == ["user_registered"]
    assert commands.authenticate_user(store, user.email, "another password").id == user.id
    with pytest.raises(domain.WrongCredentials):
        commands.authenticate_user(store, user.email, "a long password")


def test_update_to_the_email_of_another_user_is_refused(store):
    register(store)
    bob = register(store, name="Bob", email="bob@example.com")
    with pytest.raises(domain.EmailTaken):
        commands.update_user(store, bob.id, email="alice@example.com")


def test_update_without_a_field_or_user_is_refused(store):
    with pytest.raises(Invalid):
        commands.update_user(store, "U001")
    with pytest.raises(domain.UnknownUser):
        commands.update_user(store, "U001", name="X")


def test_unknown_and_malformed_ids_leave_their_batch_alone(store):
    user = register(store)
    known, unknown, malformed = commands.get_users(store, [user.id, "U404", 7])
    assert known.unwrap() == user
    assert unknown.error.slug == "not-found"
    assert malformed.error.slug == "validation-failed"
