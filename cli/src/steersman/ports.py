"""Free TCP ports on loopback."""

import random
import socket
from pathlib import Path
from typing import Final

_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST: Final = 10_000
_RANDOM: Final = random.SystemRandom()


class NoFreePort(RuntimeError):
    """Every port we tried is taken."""


def free_port() -> int:
    """A port that is free now and stays out of the range the kernel gives to clients.

    A client that keeps reconnecting to a server which is down would otherwise be handed the very
    port it dials as its own, connect to itself, and keep the server from coming back.
    """
    highest = _ephemeral_start()
    for _ in range(100):
        port = _RANDOM.randrange(_LOWEST, highest)
        if is_free("127.0.0.1", port):
            return port
    raise NoFreePort(f"no free port between {_LOWEST} and {highest}")


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    try:
        listen(host, port).close()
    except OSError:
        return False
    return True


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, for a child to inherit. Port 0 lets the kernel choose."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Lets a restart take the port although old connections still linger.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def _ephemeral_start() -> int:
    try:
        start = int(_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        return 32_768
    return start if start > _LOWEST + 1_000 else 32_768
