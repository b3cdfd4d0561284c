"""What an operator can set for the gateway."""

from __future__ import annotations

from typing import Annotated

import msgspec

from steersman_runtime.settings import ServiceSettings

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """Settings of the gateway."""

    max_body_bytes: Count = 2 * 2**20
    """Largest request body."""
    max_streams: Count = 20_000
    """Open event streams in this process."""
    max_streams_per_user: Count = 1_000
    """Open event streams of one user in this process."""
    ping_interval_s: Seconds = 15.0
    """A silent stream gets a comment this often, so that proxies keep it open."""
    write_timeout_s: Seconds = 15.0
    """A client that takes nothing for so long is shown out: of events, or of a desktop."""
    recheck_interval_s: Seconds = 60.0
    """How often an open stream is checked for rights that were withdrawn."""
    silence_s: Seconds = 10.0
    """A chat that was silent for so long is read again: a lost last event has no successor."""
    public_url: str = ""
    """Where browsers find this server, without a slash at the end; empty is where they ask it.

    People come back there from the sign-in of an MCP server.
    """
    view_origins: str = ""
    """Origins besides our own whose pages may open live views of desktops, separated by spaces."""
