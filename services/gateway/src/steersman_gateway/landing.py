"""The start page: what runs here, and where to go."""

from __future__ import annotations

from html import escape
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State

from steersman_gateway.pages import page

_BODY = """<h1>Steersman {version}</h1>
<p>A backend for AI agent chats that people can steer. It is running.</p>
<h2>Chat from the terminal</h2>
<pre>steersman chat "Write two lines about the sea"</pre>
<h2>Use the API</h2>
<p>The <a href="/api/v1/docs">API page</a> shows every operation;
<a href="/api/v1/openapi.json">openapi.json</a> is the same for programs.</p>
<pre>curl -H "Authorization: Bearer $STEERSMAN_TOKEN" {address}/api/v1/chats</pre>
<p class="dim">The browser interface is not part of this version.</p>"""


@get("/", include_in_schema=False, sync_to_thread=False)
def landing(request: Request[Any, Any, State], state: State) -> Response[str]:
    """Say what runs here."""
    version = escape(state.runtime.version)
    address = escape(f"{request.url.scheme}://{request.url.netloc}")
    return page("Steersman", _BODY.format(version=version, address=address))
