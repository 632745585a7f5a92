"""Tokens of an identity provider, made here with keys of the test, and a provider on a local port."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

jwt = pytest.importorskip("jwt", reason='needs pyjwt: pip install "lensmount[oidc]"')

from cryptography.hazmat.primitives import serialization  # noqa: E402  # after the check above
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa  # noqa: E402
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm  # noqa: E402

from lensmount_service.access import oidc  # noqa: E402
from lensmount_service.access.identity import Identity  # noqa: E402
from lensmount_service.access.oidc import OidcVerifier, Provider  # noqa: E402
from lensmount_service.errors import Unauthorized, Unavailable  # noqa: E402


class IdentityProvider:
    """Publishes keys at `url`; counts how often it is asked."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.generate()
        self.keys: list[dict[str, Any]] = [
            RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True) | {"kid": "rsa"},
            ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True) | {"kid": "ec"},
            OKPAlgorithm.to_jwk(self.ed.public_key(), as_dict=True) | {"kid": "ed"},
            {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"s" * 64).decode()},
        ]
        self.asked: list[str] = []
        self.away = False
        self.url = ""

    def token(self, kid: str | None = "rsa", algorithm: str = "RS256", key: Any = None, **claims: Any) -> str:
        now = time.time()
        own = {"iss": self.url, "aud": "lensmount", "sub": "reader1", "iat": now, "exp": now + 300}
        payload = {
            name: value for name, value in (own | {"scope": "lensmount:predict"} | claims).items() if value != ""
        }
        headers = {} if kid is None else {"kid": kid}
        signer = key or {"rsa": self.rsa, "ec": self.ec, "ed": self.ed}.get(str(kid), self.rsa)
        made: str = jwt.encode(payload, signer, algorithm=algorithm, headers=headers)
        return made


@pytest.fixture(scope="module")
def running() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked.append(self.path)
            found = {"/.well-known/openid-configuration": {"jwks_uri": f"{provider.url}/keys"}}
            document = found.get(self.path, {"keys": provider.keys})
            self.send_response(503 if provider.away else 200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *arguments: object) -> None:
            """Tests read better without an access log."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield provider
        server.shutdown()
        thread.join()


@pytest.fixture
def provider(running: IdentityProvider) -> IdentityProvider:
    running.away = False
    running.asked.clear()
    return running


@pytest.fixture
def verifier(provider: IdentityProvider) -> OidcVerifier:
    return OidcVerifier(Provider(provider.url, "lensmount"))


def identify(verifier: OidcVerifier, bearer: str) -> Identity | None:
    return asyncio.run(verifier.identify(bearer))


@pytest.mark.parametrize(
    ("kid", "algorithm"),
    [*(("rsa", name) for name in ("RS256", "RS512", "PS256")), ("ec", "ES256"), ("ed", "EdDSA")],
)
def test_a_token_signed_by_the_provider_is_an_identity(
    verifier: OidcVerifier, provider: IdentityProvider, kid: str, algorithm: str
) -> None:
    found = identify(verifier, provider.token(kid, algorithm))

    assert found is not None
    assert (found.actor, found.tenant, set(found.scopes)) == ("oidc:reader1", "default", {"predict"})
    assert found.expires_at == pytest.approx(time.time() + 300, abs=20)
    assert provider.asked == ["/.well-known/openid-configuration", "/keys"]


def unsigned(header: dict[str, Any], payload: dict[str, Any], secret: bytes | None = None) -> str:
    """A token made by hand, because the library refuses to make it."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload)]
    text = b".".join(parts)
    mac = b"" if secret is None else hmac.new(secret, text, hashlib.sha256).digest()
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def test_no_algorithm_but_asymmetric_ones_passes(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    claims = jwt.decode(provider.token(scope="lensmount:admin"), options={"verify_signature": False})
    public = provider.rsa.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    tried: list[tuple[dict[str, Any], bytes | None]] = [
        *(({"alg": alg, "kid": "rsa"}, None) for alg in ("none", "None", "NONE", "", "RS256")),
        ({"alg": "HS256", "kid": "rsa"}, public),
        ({"alg": "HS256", "kid": "secret"}, b"s" * 64),  # a key that the provider published, but is no public key
        ({"alg": "ES256", "kid": "rsa"}, None),
        ({"alg": 1, "kid": "rsa"}, None),
        ({"kid": "rsa"}, None),
    ]
    for header, secret in tried:
        with pytest.raises(Unauthorized):
            assert identify(verifier, unsigned(header, claims, secret)) is not None or _not_ours()


def _not_ours() -> None:
    raise Unauthorized("the authenticator refuses what no verifier knows")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "other"}, "udience"),
        ({"aud": ""}, "aud"),
        ({"iss": "https://evil.example"}, "ssuer"),
        ({"exp": 1.0}, "expired"),
        ({"exp": ""}, "exp"),
        ({"exp": "soon"}, "xpiration"),
        ({"nbf": 4e9}, "not yet valid"),
        ({"sub": ""}, "sub"),
        ({"scope": "openid email"}, "has none of"),
        ({"scope": 7}, "has none of"),
        ({"scope": ""}, "has none of"),
    ],
)
def test_a_claim_that_does_not_fit_is_refused(
    verifier: OidcVerifier, provider: IdentityProvider, claims: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unauthorized, match=reason):
        identify(verifier, provider.token(**claims))


def test_clocks_may_differ_by_half_a_minute(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    now = time.time()
    assert identify(verifier, provider.token(exp=now - 20)) is not None
    assert identify(verifier, provider.token(nbf=now + 20)) is not None
    with pytest.raises(Unauthorized):
        identify(verifier, provider.token(exp=now - 40))


@pytest.mark.parametrize("exp", [1e300, 10**400])
def test_an_expiry_beyond_all_dates_is_a_date(verifier: OidcVerifier, provider: IdentityProvider, exp: float) -> None:
    found = identify(verifier, provider.token(exp=exp))
    assert found is not None
    assert found.expires_at == oidc.MAX_EXPIRY


def test_what_is_no_signed_token_is_left_to_others(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    for bearer in ("lm_abc", "a.b.c", "..", "a.b", "é.é.é", "\udc80.a.b", "x" * 9000, provider.token(pad="x" * 9000)):
        assert identify(verifier, bearer) is None
    assert provider.asked == []


def test_the_signature_of_another_key_is_refused(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    other = rsa.generate_private_key(65537, 2048)

    with pytest.raises(Unauthorized, match="ignature"):
        identify(verifier, provider.token(key=other))
    with pytest.raises(Unauthorized, match="key"):
        identify(verifier, provider.token(kid=None))  # of several keys, the token must say which


def test_unknown_keys_make_the_server_ask_once_in_a_while(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    for number in range(20):
        with pytest.raises(Unauthorized, match="not among those"):
            identify(verifier, provider.token(kid=f"made-up-{number}"))

    assert provider.asked.count("/keys") == 1


def test_a_new_key_of_the_provider_is_found_and_an_old_one_ends(
    verifier: OidcVerifier, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)
    old = provider.token()
    assert identify(verifier, old) is not None
    kept, fresh = provider.keys, rsa.generate_private_key(65537, 2048)
    try:
        provider.keys = [RSAAlgorithm.to_jwk(fresh.public_key(), as_dict=True) | {"kid": "new"}]
        assert identify(verifier, provider.token(kid="new", key=fresh)) is not None
        with pytest.raises(Unauthorized, match="not among those"):
            identify(verifier, old)
    finally:
        provider.keys = kept


def test_while_the_provider_is_away_known_keys_go_on(
    verifier: OidcVerifier, provider: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)
    assert identify(verifier, provider.token()) is not None
    provider.away = True
    monkeypatch.setattr(oidc, "FRESH_S", 0.0)

    assert identify(verifier, provider.token(sub="reader2")) is not None
    assert len(provider.asked) > 2
    with pytest.raises(Unavailable) as away:
        identify(OidcVerifier(Provider(provider.url, "lensmount")), provider.token())
    assert away.value.code == "identity_unavailable"
    assert away.value.retry_after_s


def test_claims_become_scopes_and_tenants_as_configured(provider: IdentityProvider) -> None:
    keycloak = Provider(
        provider.url,
        "lensmount",
        f"{provider.url}/keys",
        "realm_access.roles",
        {"readers": "predict", "trainers": "predict,train", "chiefs": "admin"},
        "department",
    )
    verifier = OidcVerifier(keycloak)
    roles: dict[str, Any] = {"realm_access": {"roles": ["trainers", "other", 7]}}

    found = identify(verifier, provider.token(**roles, department="lab-a"))
    assert found is not None
    assert (set(found.scopes), found.tenant, found.is_operator) == ({"predict", "train"}, "lab-a", False)
    assert provider.asked == ["/keys"]
    for department in ("", "A b", "public", 7, ["lab-a"]):
        with pytest.raises(Unauthorized, match="department"):
            identify(verifier, provider.token(**roles, department=department))


def test_two_people_have_two_keys_and_one_person_one(verifier: OidcVerifier, provider: IdentityProvider) -> None:
    reader1, again, reader2 = (
        identify(verifier, provider.token(sub=sub)) for sub in ("reader1", "reader1", "reader2\x1b[2J")
    )

    assert reader1 is not None
    assert again is not None
    assert reader2 is not None
    assert reader1.key == again.key != reader2.key
    assert reader2.actor == "oidc:reader2?[2J"
