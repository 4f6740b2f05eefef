"""Signs a user in as an app would: SRP, which every client of the pool allows, and a second factor where the pool wants one.

The password never leaves this machine.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import secrets
import struct
from typing import Any, Callable

from launcher.errors import StackError

# RFC 3526, group 15, with generator 2.
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE45B3DC2007CB8A163BF0598DA48361C55D39A69163FA8FD24CF5F83655D23DCA3AD961C62F356208552BB9ED529077096966D"
    "670C354E4ABC9804F1746C08CA18217C32905E462E36CE3BE39E772C180E86039B2783A2EC07A28FB5C55DF06F4C52C9DE2BCBF695581718"
    "3995497CEA956AE515D2261898FA051015728E5A8AAAC42DAD33170D04507A33A85521ABDF1CBA64ECFB850458DBEF0A8AEA71575D060C7D"
    "B3970F85A6E1E4C7ABF5AE8CDB0933D71E8C94E04A25619DCEE3D2261AD2EE6BF12FFA06D98A0864D87602733EC86A64521F2B18177B200C"
    "BBE117577A615D6C770988C0BAD946E208E24FA074E5AB3143DB5BFCE0FD108E4B82D120A93AD2CAFFFFFFFFFFFFFFFF", 16
)
GENERATOR = 2
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Secret:
    """The client's half of one SRP exchange."""

    def __init__(self, pool_id: str, password: str, small_a: int | None = None) -> None:
        self._pool = pool_id.partition("_")[2]
        self._password = password
        self._a = small_a or secrets.randbits(1024)
        self.public = pow(GENERATOR, self._a, PRIME)

    def answer(self, challenge: dict, now: datetime.datetime) -> dict[str, str]:
        """The proof of the password, for Cognito's challenge PASSWORD_VERIFIER."""
        user, public_b = challenge["USER_ID_FOR_SRP"], int(challenge["SRP_B"], 16)
        if public_b % PRIME == 0:
            raise StackError("Cognito's challenge is not usable: its public value is 0")
        u = _hash(_bytes(self.public), _bytes(public_b))
        identity = hashlib.sha256(f"{self._pool}{user}:{self._password}".encode()).digest()
        x = _hash(_bytes(int(challenge["SALT"], 16)), identity)
        k = _hash(_bytes(PRIME), _bytes(GENERATOR))
        shared = pow(public_b - k * pow(GENERATOR, x, PRIME), self._a + u * x, PRIME)
        # HKDF with one block, of which 16 bytes are the key.
        extracted = _hmac(_bytes(u), _bytes(shared))
        key = _hmac(extracted, b"Caldera Derived Key\x01")[:16]
        block = base64.b64decode(challenge["SECRET_BLOCK"])
        # Cognito wants English names and a day without a leading zero, whatever the machine's locale.
        timestamp = f"{DAYS[now.weekday()]} {MONTHS[now.month - 1]} {now.day} {now:%H:%M:%S} UTC {now.year}"
        signature = _hmac(key, self._pool.encode() + user.encode() + block + timestamp.encode())
        return {
            "USERNAME": challenge.get("USERNAME", user),
            "PASSWORD_CLAIM_SECRET_BLOCK": challenge["SECRET_BLOCK"],
            "PASSWORD_CLAIM_SIGNATURE": base64.b64encode(signature).decode(),
            "TIMESTAMP": timestamp,
        }


def id_token(
    cognito: Any, pool_id: str, client_id: str, user: str, password: str, *,
    new_authenticator: Callable[[str], str],
    code: Callable[[], str] | None = None,
    new_password: Callable[[], str] | None = None,
) -> str:
    """An ID token.

    Where the pool demands a second factor and the user has none yet, `new_authenticator` takes the secret of a new one and
    returns its code. `code` returns the one of an authenticator that there is, `new_password` what replaces a temporary one.
    """
    secret = Secret(pool_id, password)
    answer = cognito.initiate_auth(
        ClientId=client_id, AuthFlow="USER_SRP_AUTH", AuthParameters={"USERNAME": user, "SRP_A": f"{secret.public:x}"}
    )
    name = user
    while "AuthenticationResult" not in answer:
        challenge, session = answer.get("ChallengeName"), answer.get("Session")
        if challenge == "PASSWORD_VERIFIER":
            responses = secret.answer(answer["ChallengeParameters"], datetime.datetime.now(datetime.timezone.utc))
            name = responses["USERNAME"]
        elif challenge == "MFA_SETUP":
            session = _set_up_authenticator(cognito, session, new_authenticator)
            responses = {"USERNAME": name}
        elif challenge == "SOFTWARE_TOKEN_MFA" and code:
            responses = {"USERNAME": name, "SOFTWARE_TOKEN_MFA_CODE": code()}
        elif challenge == "NEW_PASSWORD_REQUIRED" and new_password:
            responses = {"USERNAME": name, "NEW_PASSWORD": new_password()}
        else:
            raise StackError(f"Cognito wants {challenge}, which cannot be answered here")
        answer = cognito.respond_to_auth_challenge(
            ClientId=client_id, ChallengeName=challenge, ChallengeResponses=responses, **({"Session": session} if session else {})
        )
    return answer["AuthenticationResult"]["IdToken"]


def one_time_code(secret: str, seconds: float) -> str:
    """The code of an authenticator app at a time (RFC 6238: SHA-1, 30 s, six digits)."""
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.new(key, struct.pack(">Q", int(seconds) // 30), hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(int.from_bytes(digest[offset:offset + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


def _set_up_authenticator(cognito: Any, session: str, new_authenticator: Callable[[str], str]) -> str:
    made = cognito.associate_software_token(Session=session)
    session = made.get("Session", session)
    verified = cognito.verify_software_token(Session=session, UserCode=new_authenticator(made["SecretCode"]))
    if verified["Status"] != "SUCCESS":
        raise StackError("Cognito does not take the authenticator's code: is the clock right?")
    return verified.get("Session", session)


def _bytes(number: int) -> bytes:
    """Big-endian with a sign bit, as Cognito hashes numbers."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha256(b"".join(parts)).digest(), "big")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()
