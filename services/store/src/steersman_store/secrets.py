"""Provider keys at rest: AES-256-GCM under the deployment's secret key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from steersman_contracts.errors import InternalError
from steersman_runtime.settings import BadSettings

_NONCE = 12
_VERSION = b"\x01"


class Vault:
    """Encrypts and decrypts short secrets. Each is bound to a purpose and cannot be moved."""

    def __init__(self, key: str) -> None:
        """Take the key of the deployment.

        Raises:
            BadSettings: It is not 32 bytes in base64.
        """
        try:
            raw = base64.b64decode(key, validate=True)
        except binascii.Error:
            raw = b""
        if len(raw) != 32:  # AES-256
            raise BadSettings("STEERSMAN_SECRET_KEY: wants 32 random bytes in base64")
        self._cipher = AESGCM(raw)
        # Acquiring a chat decrypts; the same few keys over and over.
        self.open = lru_cache(maxsize=256)(self._open)

    def seal(self, secret: str, purpose: str) -> bytes:
        """Encrypt a secret."""
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher.encrypt(nonce, secret.encode(), purpose.encode())

    def _open(self, sealed: bytes, purpose: str) -> str:
        """Decrypt what `seal` made for the same purpose.

        Raises:
            InternalError: It was made with another key or for another purpose.
        """
        nonce, body = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, body, purpose.encode()).decode()
        except InvalidTag as error:
            raise InternalError(
                "a stored key cannot be decrypted: STEERSMAN_SECRET_KEY is not the one it was "
                "stored with"
            ) from error


def digest(secret: str) -> str:
    """Hex SHA-256: how tokens and codes are stored. They are long and random, so no salt."""
    return hashlib.sha256(secret.encode()).hexdigest()


def account_of(base_url: str | None, key: str | None) -> str:
    """Whose account a provider is: a short digest that does not give the key away."""
    return hashlib.sha256(f"{base_url or ''}\n{key or ''}".encode()).hexdigest()[:16]
