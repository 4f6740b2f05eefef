"""Signs tokens as Cognito does, and publishes the keys."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER = "https://cognito-idp.us-east-1.amazonaws.com/us-east-1_BenchPeer"
AUDIENCE = "bench-peers"
FIRST_KID = "bench"


class Issuer:
    """Its first key stays; a second one can be replaced."""

    def __init__(self) -> None:
        self._keys = {FIRST_KID: new_key()}
        self._callers: dict[str, str] = {}
        self._count = 0

    def rotate(self) -> str:
        """Replaces the second key. Returns the id of the new one; the old one is no longer published."""
        self._count += 1
        kid = f"bench-{self._count}"
        self._keys = {FIRST_KID: self._keys[FIRST_KID], kid: new_key()}
        return kid

    def caller(self, tenant: str) -> str:
        """This tenant's token, the same each time."""
        if tenant not in self._callers:
            self._callers[tenant] = self.token(tenant)
        return self._callers[tenant]

    def token(self, tenant: str, kid: str = FIRST_KID, *, forged: bool = False) -> str:
        """A new token; a forged one has a signature of the right size."""
        self._count += 1
        now = int(time.time())
        claims = {
            "iss": ISSUER, "aud": AUDIENCE, "token_use": "id", "sub": "6b1f2a3c-0000-4000-8000-000000000000", "iat": now,
            "auth_time": now, "exp": now + 86_400, "custom:tenantId": tenant, "custom:userRole": "reader",
            "email": "somebody@example.com", "cognito:username": "somebody", "jti": f"6b1f2a3c-0000-4000-8000-{self._count:012}",
        }
        parts = [encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": kid, "typ": "JWT"}, claims)]
        if forged:
            signature = b"\x01" + os.urandom(255)
        else:
            signature = self._keys[kid].sign(".".join(parts).encode(), padding.PKCS1v15(), hashes.SHA256())
        return ".".join([*parts, encoded(signature)])

    @contextlib.contextmanager
    def published(self) -> Iterator[str]:
        """Serves the public keys. Returns the URL."""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                document = json.dumps({"keys": [jwk(kid, key) for kid, key in issuer._keys.items()]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(document)))
                self.end_headers()
                self.wfile.write(document)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
        server.shutdown()


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def jwk(kid: str, key: rsa.RSAPrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
        "n": encoded(numbers.n.to_bytes(256, "big")), "e": encoded(numbers.e.to_bytes(3, "big")),
    }


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
