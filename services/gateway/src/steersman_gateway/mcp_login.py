"""Where a person comes back from the sign-in of an MCP server.

Opening the page changes nothing. The sign-in is finished by a button, in a browser that is signed
in here as whoever has begun it: else somebody could be led to sign in for a stranger.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import QueryParameter

from steersman_contracts.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    SteersmanError,
    Unauthenticated,
)
from steersman_gateway.auth import token_of
from steersman_gateway.backend import Services
from steersman_gateway.mcp import LOGIN_PATH, finish_login
from steersman_gateway.pages import page
from steersman_gateway.problems import STATUS

# Not `state`: Litestar keeps that name for itself.
Proof = Annotated[
    str | None, QueryParameter(name="state", max_length=200, description="As it was begun.")
]
Part = Annotated[str | None, QueryParameter(max_length=4_096, description="As the server says.")]

_TITLE: Final = "Sign in at an MCP server"
_ASK: Final = """<h1>Let Steersman use this account</h1>
<p>You come from the sign-in of an MCP server. Go on only if you have begun it yourself, in
Steersman and just now: your chats will use its tools in your name.</p>
<form method="post"><button autofocus>Finish</button></form>
<p class="dim">Is <code>steersman mcp login</code> waiting in a terminal? Then paste the address of
this page there instead.</p>"""
_DONE: Final = """<h1>You are signed in</h1>
<p>Its tools are there from the next turn of a chat on. You can close this page.</p>"""
_NOBODY: Final = """<h1>This browser is not signed in at Steersman</h1>
<p>Paste the address of this page into the terminal where <code>steersman mcp login</code> waits; or
sign in here, and begin again.</p>"""
_GONE: Final = """<h1>This sign-in does not work any more</h1>
<p>It is good once, for ten minutes, and only for whoever has begun it. Begin again.</p>"""
_REFUSED: Final = """<h1>The server has not let you in</h1>
<p>It sent you back without an answer that Steersman can use. Begin again.</p>"""
_LATER: Final = """<h1>Signing in is not possible at the moment</h1>
<p>A part of Steersman does not answer. Begin again in a moment.</p>"""


@get(LOGIN_PATH, include_in_schema=False, sync_to_thread=False)
def ask(proof: Proof = None, code: Part = None) -> Response[str]:
    """Show the button."""
    if not proof or not code:
        return page(_TITLE, _REFUSED, status=400, refused=True)
    return page(_TITLE, _ASK)


@post(LOGIN_PATH, include_in_schema=False)
async def finish(
    request: Request[Any, Any, State],
    backend: Services,
    proof: Proof = None,
    code: Part = None,
    iss: Part = None,
) -> Response[str]:
    """Finish it for whoever is signed in here."""
    if not proof or not code:
        return page(_TITLE, _REFUSED, status=400, refused=True)
    try:
        identity = await request.app.state.service.authenticator.identify(token_of(request))
    except (Unauthenticated, Forbidden):
        return page(_TITLE, _NOBODY, status=401, refused=True)
    try:
        await finish_login(backend, identity.actor, proof, code, iss)
    except (NotFound, InvalidRequest):
        return page(_TITLE, _GONE, status=410, refused=True)
    except Conflict:
        return page(_TITLE, _REFUSED, status=409, refused=True)
    except SteersmanError as error:
        return page(_TITLE, _LATER, status=STATUS.get(error.code, 500), refused=True)
    return page(_TITLE, _DONE)
