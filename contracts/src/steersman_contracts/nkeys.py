"""Keys of NATS in the form that its server reads: who signs what a connection may do.

Only the encoding is here; whoever signs brings the cryptography.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Final

_ACCOUNT: Final = 0 << 3
"""The prefix byte of an account's public key: it becomes the letter A."""
_KEY_BYTES: Final = 32
_USER_KEY: Final = re.compile(r"U[A-Z2-7]{55}")
MIN_SECRET: Final = 32
"""Characters of the secret that signing keys are made of."""


def account_key(public: bytes) -> str:
    """The public key of an issuer as it is written into the server's configuration.

    Args:
        public: 32 bytes, of Ed25519.
    """
    if len(public) != _KEY_BYTES:
        raise ValueError(f"a public key has {_KEY_BYTES} bytes, not {len(public)}")
    body = bytes([_ACCOUNT]) + public
    # CRC-16/XMODEM, low byte first.
    checked = body + binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(checked).decode().rstrip("=")


def is_user_key(text: str) -> bool:
    """Whether a text has the form of a user's public key."""
    return _USER_KEY.fullmatch(text) is not None


def signing_seed(secret: str) -> bytes:
    """The private key of the issuer, 32 bytes for Ed25519.

    Raises:
        ValueError: The secret is short enough to be guessed.
    """
    return _derived(secret, "issuer")


def token_key(secret: str) -> bytes:
    """What the tokens of deputies are made with; whoever knows one learns nothing of the issuer."""
    return _derived(secret, "token")


def _derived(secret: str, purpose: str) -> bytes:
    if len(secret) < MIN_SECRET:
        raise ValueError(f"the secret has fewer than {MIN_SECRET} characters")
    return hashlib.blake2b(
        secret.encode(), digest_size=_KEY_BYTES, person=f"deputy {purpose}".encode()
    ).digest()
