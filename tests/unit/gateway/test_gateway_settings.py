"""Settings: one line names all that are missing or invalid."""

import pytest

from gateway.settings import SettingsError, load_settings

GOOD = {"AMQP_URI": "amqp://guest@localhost", "JWT_SECRET": "x" * 32}


@pytest.fixture
def environment(monkeypatch):
    for name in (
        "AMQP_URI",
        "JWT_SECRET",
        "CONSUL_HTTP_ADDR",
        "GATEWAY_PORT",
        "GATEWAY_HOST",
        "GATEWAY_INSTANCES",
    ):
        monkeypatch.delenv(name, raising=False)

    def put(**values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return put


def test_empty_variable_counts_as_missing(environment):
    environment(**GOOD, GATEWAY_PORT="", CONSUL_HTTP_ADDR="", GATEWAY_HOST="0.0.0.0")

    settings = load_settings()

    assert (settings.GATEWAY_HOST, settings.GATEWAY_PORT, settings.CONSUL_HTTP_ADDR) == (
        "0.0.0.0",
        8000,
        None,
    )


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"AMQP_URI": ""}, ["AMQP_URI is missing"]),
        ({"JWT_SECRET": ""}, ["JWT_SECRET is missing"]),
        ({"AMQP_URI": "", "JWT_SECRET": ""}, ["AMQP_URI is missing", "JWT_SECRET is missing"]),
        ({"JWT_SECRET": "short"}, ["JWT_SECRET is too short"]),
        ({"AMQP_URI": "http://localhost"}, ["AMQP_URI"]),
        ({"PRODUCTS_GRPC": "localhost:50051,elsewhere"}, ["PRODUCTS_GRPC", "elsewhere"]),
        ({"GATEWAY_PRODUCTS_OVER": "pigeon"}, ["GATEWAY_PRODUCTS_OVER"]),
        ({"GATEWAY_PORT": "http"}, ["GATEWAY_PORT"]),
        ({"GATEWAY_SHARED_PORT": "8080"}, ["GATEWAY_INSTANCES"]),
        (
            {"GATEWAY_SHARED_PORT": "80", "GATEWAY_PORT": "80", "GATEWAY_INSTANCES": "2"},
            ["GATEWAY_PORT", "GATEWAY_SHARED_PORT"],
        ),
        ({"GATEWAY_LOGINS_PER_ACCOUNT": "many"}, ["GATEWAY_LOGINS_PER_ACCOUNT"]),
    ],
)
def test_missing_and_invalid_settings_are_named_in_one_line(environment, changes, names):
    environment(**{**GOOD, **changes})

    with pytest.raises(SettingsError) as refused:
        load_settings()

    message = str(refused.value)
    assert "\n" not in message
    assert all(name in message for name in names)


def test_secret_is_in_no_message(environment):
    environment(**GOOD)
    assert "xxx" not in repr(load_settings())

    environment(JWT_SECRET="short-secret")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "short-secret" not in str(refused.value)
