"""Ask a service over HTTP whether it is ready, without an HTTP library: they take long to load."""

import asyncio
from contextlib import suppress

_MAX_ANSWER = 64 << 10


async def problem_at(
    address: tuple[str, int], path: str = "/readyz", *, timeout_s: float = 2.0
) -> str | None:
    """Why the service is not ready, in its own words; None when it is."""
    try:
        async with asyncio.timeout(timeout_s):
            answer = await _get(address, path)
    except (OSError, TimeoutError) as error:
        return str(error) or "no answer"
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b" ", 2)[1:2]
    if status == [b"200"]:
        return None
    return body.decode(errors="replace")[:500] or "no answer"


async def _get(address: tuple[str, int], path: str) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    try:
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        request = f"GET {path} HTTP/1.1\r\nHost: {host}:{address[1]}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        answer = b""
        while len(answer) < _MAX_ANSWER and (data := await reader.read(_MAX_ANSWER)):
            answer += data
        return answer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
