"""Logins, and the limit on failed logins."""

import asyncio

import pytest
from limits import parse

from gateway.auth.login_throttle import LoginThrottle, _network
from gateway.web.problems import Problem
from nameko_mesh.errors import Refused, UnknownService

FORM = {"username": "alice@example.com", "password": "right"}
WRONG = Refused("unauthenticated", "the e-mail address or the password is wrong")


def authenticates(mesh):
    def check(email, password):
        return {"id": "U001", "role": "user"} if password == "right" else WRONG

    mesh.results["users.authenticate_user"] = check


@pytest.fixture
def settings(make_settings):
    return make_settings(GATEWAY_LOGINS_PER_ACCOUNT="3/minute", GATEWAY_LOGINS_PER_ADDRESS="6/minute")


async def test_correct_password_gets_a_valid_token(http, mesh):
    authenticates(mesh)
    mesh.results["users.get_user"] = {"id": "U001"}

    response = await http.post("/auth/token", data={**FORM, "grant_type": "password"})

    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert (response.json()["token_type"], response.json()["expires_in"]) == ("bearer", 3600)
    headers = {"Authorization": f"Bearer {response.json()['access_token']}"}
    assert (await http.get("/users/me", headers=headers)).status_code == 200


async def test_wrong_password_is_unauthenticated(http, mesh, is_problem):
    authenticates(mesh)

    response = await http.post("/auth/token", data={**FORM, "password": "wrong"})

    is_problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_overlong_password_is_refused_without_a_call(http, mesh, is_problem):
    response = await http.post("/auth/token", data={**FORM, "password": "x" * 129})

    is_problem(response, 401, "unauthenticated")
    assert mesh.calls == []


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "username"),
        ({"username": "a"}, "password"),
        ({**FORM, "grant_type": "client_credentials"}, "grant_type"),
    ],
)
async def test_incomplete_form_is_refused_by_field(http, is_problem, form, field):
    is_problem(await http.post("/auth/token", data=form), 422, "validation-failed", field)


async def test_malformed_form_is_refused(http, is_problem):
    headers = {"Content-Type": "multipart/form-data"}

    is_problem(await http.post("/auth/token", content=b"x", headers=headers), 422, "validation-failed")


async def test_login_is_unavailable_without_the_service(http, mesh, is_problem):
    mesh.results["users.authenticate_user"] = UnknownService("users")

    for _ in range(10):
        is_problem(await http.post("/auth/token", data=FORM), 503, "unavailable")


async def test_account_is_throttled_after_too_many_failures(http, mesh, is_problem):
    authenticates(mesh)
    for _ in range(3):
        is_problem(await http.post("/auth/token", data={**FORM, "password": "x"}), 401, "unauthenticated")

    response = await http.post("/auth/token", data={**FORM, "username": " ALICE@example.com"})

    is_problem(response, 429, "rate-limited")
    assert 1 <= int(response.headers["retry-after"]) <= 60
    assert len(mesh.calls) == 3
    assert (await http.post("/auth/token", data={**FORM, "username": "bob@example.com"})).status_code == 200


async def test_address_is_throttled_after_failures_on_many_accounts(http, mesh, is_problem):
    authenticates(mesh)
    for number in range(6):
        await http.post("/auth/token", data={"username": f"u{number}@example.com", "password": "x"})

    response = await http.post("/auth/token", data={"username": "new@example.com", "password": "x"})

    is_problem(response, 429, "rate-limited")


async def test_successful_logins_are_not_limited(http, mesh):
    authenticates(mesh)

    for _ in range(10):
        assert (await http.post("/auth/token", data=FORM)).status_code == 200


async def test_parallel_failures_count_before_they_end(http, mesh):
    release = asyncio.Event()

    async def slow_no(*args, **kwargs):
        mesh.calls.append(("users.authenticate_user", {}))
        await release.wait()
        raise WRONG

    mesh.call = slow_no
    guesses = [
        asyncio.create_task(http.post("/auth/token", data={**FORM, "password": str(n)})) for n in range(9)
    ]
    refused, waiting = [], set(guesses)
    while len(refused) < 6:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        assert done
        refused += done
    release.set()
    responses = [task.result().status_code for task in refused] + [
        response.status_code for response in await asyncio.gather(*waiting)
    ]

    assert sorted(responses) == [401] * 3 + [429] * 6
    assert len(mesh.calls) == 3


def test_ipv6_addresses_of_one_network_share_a_limit():
    assert _network("2001:db8::1") == _network("2001:db8::ffff") != _network("2001:db8:1::1")
    assert _network("10.0.0.1") == "10.0.0.1"
    assert _network("unknown") == "unknown"


def test_memory_of_the_throttle_is_bounded():
    throttle = LoginThrottle("3/minute", "100000/minute")

    buckets = {throttle._bucket("account", f"u{number}") for number in range(20_000)}

    assert len(buckets) <= 4096


@pytest.mark.parametrize(
    ("limit", "instances", "part"),
    [
        ("10/minute", 1, (10, 60)),
        ("10/minute", 2, (5, 60)),
        ("10/minute", 4, (2, 60)),
        ("10/minute", 16, (1, 120)),
        ("1/hour", 3, (1, 3 * 3600)),
    ],
)
def test_instances_share_the_limit(limit, instances, part):
    allowed, seconds = part
    throttle = LoginThrottle(limit, "1000/second", instances=instances)

    assert throttle._account.amount == allowed
    assert throttle._account.get_expiry() == seconds
    assert instances * allowed / seconds <= parse(limit).amount / parse(limit).get_expiry()
    for _ in range(allowed):
        with pytest.raises(Refused), throttle.attempt("alice", "127.0.0.1"):
            raise WRONG
    with pytest.raises(Problem, match="too many"), throttle.attempt("alice", "127.0.0.1"):
        pytest.fail("this login exceeds the limit")
