"""Public keys of Ed25519 (RFC 8032), for machines with nothing but Python.

Made once, where nobody watches the clock: it is slow, and takes different time for different keys.
Nothing is signed here; the services use a library.
"""

from __future__ import annotations

import hashlib

_PRIME = 2**255 - 19
_D = -121665 * pow(121666, -1, _PRIME) % _PRIME
_BASE_X = 15112221349535400772501151409588531511454012693041857206046113283949847762202
_BASE_Y = 4 * pow(5, -1, _PRIME) % _PRIME
_BITS = 255


def public_key(seed: bytes) -> bytes:
    """The 32 bytes that belong to the 32 bytes of a private key."""
    if len(seed) != 32:
        raise ValueError(f"a private key has 32 bytes, not {len(seed)}")
    scalar = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    # Section 5.1.5: a multiple of the cofactor, with a highest bit that is always the same.
    scalar = scalar & ~0b111 & ((1 << 254) - 1) | 1 << 254
    point, power = (0, 1), (_BASE_X, _BASE_Y)
    for bit in range(_BITS):
        if scalar >> bit & 1:
            point = _add(point, power)
        power = _add(power, power)
    x, y = point
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """The law of twisted Edwards curves; it is complete, so that doubling is no other case."""
    crossed, straight = a[0] * b[1] + b[0] * a[1], a[1] * b[1] + a[0] * b[0]
    both = _D * a[0] * b[0] * a[1] * b[1] % _PRIME
    x = crossed * pow(1 + both, -1, _PRIME)
    y = straight * pow(1 - both, -1, _PRIME)
    return x % _PRIME, y % _PRIME
