"""VNC authentication: a challenge encrypted with the password, by DES as everybody does it.

It keeps nobody out for long (8 characters, 56 bits); it is here for VNC servers that want it.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

CHALLENGE: Final = 16


def answer(challenge: bytes, password: str) -> bytes:
    """What a server wants to hear for its challenge of 16 bytes."""
    key = password.encode("latin-1", errors="replace")[:8].ljust(8, b"\0")
    # The original used a DES with the bits of each byte in reverse.
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    # Three times the same key is DES once.
    encryptor = Cipher(TripleDES(mirrored * 3), ECB()).encryptor()  # noqa: S305, RUF100  # the protocol's
    return encryptor.update(challenge) + encryptor.finalize()
