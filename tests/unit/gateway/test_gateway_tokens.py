"""Tokens: the valid ones, and the many invalid ones."""

import base64
import json
import time
import uuid

import jwt
import pytest

from gateway.auth import tokens as tokens_module
from gateway.auth.tokens import ALGORITHM, AUDIENCE, ISSUER, Tokens

NOW = int(time.time())


def claims(**changes):
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "U001",
        "role": "user",
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "jti": uuid.uuid4().hex,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def unsigned(algorithm, signature=b""):
    def part(value):
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    tail = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims(role='admin'))}.{tail}"


async def test_valid_token_is_accepted(http, mesh, settings):
    mesh.results["users.get_user"] = {"id": "U001"}
    token = jwt.encode(claims(), settings.secret, algorithm=ALGORITHM)

    for scheme in ("Bearer", "bearer"):
        assert (
            await http.get("/users/me", headers={"Authorization": f"{scheme} {token}"})
        ).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": NOW - 60},
        {"exp": "soon"},
        {"aud": "another"},
        {"iss": "another"},
        {"iat": NOW + 86400},
        {"nbf": NOW + 86400},
        {"sub": 5},
        *({name: None} for name in ("iss", "aud", "sub", "role", "iat", "exp", "jti")),
    ],
    ids=str,
)
async def test_token_with_an_invalid_or_missing_claim_is_refused(http, mesh, settings, is_problem, changes):
    token = jwt.encode(claims(), settings.secret, algorithm=ALGORITHM)
    header, _, _ = token.split(".")
    payload = base64.urlsafe_b64encode(json.dumps(claims(**changes)).encode()).rstrip(b"=").decode()
    algorithm = jwt.get_algorithm_by_name(ALGORITHM)
    signature = algorithm.sign(f"{header}.{payload}".encode(), algorithm.prepare_key(settings.secret))
    signed = f"{header}.{payload}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"

    response = await http.get("/users/me", headers={"Authorization": f"Bearer {signed}"})

    is_problem(response, 401, "unauthenticated")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert mesh.calls == []


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer x",
        "Bearer a.b.c",
        "Bearer " + "x" * 5000,
        "Basic dXNlcjpwYXNz",
        f"Bearer {unsigned('none')}",
        f"Bearer {unsigned('None')}",
        f"Bearer {unsigned('RS256', b'x' * 256)}",
        f"Bearer {unsigned('HS256', b'x' * 32)}",
        f"Bearer {jwt.encode(claims(), 'another secret, as long as it has to be', algorithm='HS256')}",
    ],
)
async def test_foreign_or_malformed_token_is_refused(http, mesh, is_problem, authorization):
    is_problem(await http.get("/users/me", headers={"Authorization": authorization}), 401, "unauthenticated")
    assert mesh.calls == []


async def test_empty_token_is_refused(asgi, is_problem):
    is_problem(await asgi.get("/users/me", headers={"Authorization": "Bearer "}), 401, "unauthenticated")


async def test_token_with_another_algorithm_is_refused(http, settings, is_problem):
    token = jwt.encode(claims(), settings.secret * 2, algorithm="HS512")

    is_problem(
        await http.get("/users/me", headers={"Authorization": f"Bearer {token}"}), 401, "unauthenticated"
    )


async def test_tampered_token_is_refused_although_the_original_is_cached(http, mesh, settings, is_problem):
    mesh.results["users.get_user"] = {"id": "U001"}
    token = jwt.encode(claims(), settings.secret, algorithm=ALGORITHM)
    header, _, signature = token.split(".")
    forged = f"{header}.{unsigned('HS256').split('.')[1]}.{signature}"

    assert (await http.get("/users/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200
    is_problem(
        await http.get("/users/me", headers={"Authorization": f"Bearer {forged}"}), 401, "unauthenticated"
    )


def test_cached_token_is_refused_once_it_expires(monkeypatch):
    tokens = Tokens(b"x" * 32, 60)
    token = tokens.issue("U001", "user")
    assert tokens.verify(token).user_id == "U001"

    real = time.time()
    monkeypatch.setattr(tokens_module.time, "time", lambda: real + 66)

    with pytest.raises(tokens_module.Problem, match="expired"):
        tokens.verify(token)


def test_cache_of_tokens_is_bounded(monkeypatch):
    monkeypatch.setattr(tokens_module, "_MAX_CACHED_TOKENS", 3)
    tokens = Tokens(b"x" * 32, 60)

    for number in range(10):
        tokens.verify(tokens.issue(f"U{number}", "user"))

    assert len(tokens._verified) == 3
