"""Sign-in links: a one-time code becomes a cookie. Opening the link alone changes nothing."""

from __future__ import annotations

from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie, State
from litestar.params import PathParameter
from litestar.response import Redirect

from steersman_contracts.errors import (
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    SteersmanError,
    Unauthenticated,
)
from steersman_contracts.rpc.identity import REDEEM_SIGN_IN, RedeemSignIn
from steersman_gateway.auth import COOKIE, digest, same_origin
from steersman_gateway.backend import Services
from steersman_gateway.pages import page
from steersman_gateway.problems import STATUS

COOKIE_DAYS: Final = 30
Code = Annotated[str, PathParameter(min_length=1, max_length=200)]

_ASK: Final = """<h1>Sign in to Steersman</h1>
<p>This link works once. It keeps this browser signed in for 30 days.</p>
<form method="post"><button autofocus>Sign in</button></form>"""
_GONE: Final = """<h1>This link does not work any more</h1>
<p>Sign-in links are good once and for a short time. Start Steersman again, or ask whoever runs it,
for a new one.</p>"""
_FOREIGN: Final = """<h1>This sign-in was not started here</h1>
<p>Open the link itself and press the button on the page.</p>"""
_LATER: Final = """<h1>Signing in is not possible at the moment</h1>
<p>A part of Steersman does not answer. The link is still good: try it again in a moment.</p>"""


# Looking is not using: chat programs and mail scanners open links, but they press no buttons.
@get("/sign-in/{code:str}", include_in_schema=False, sync_to_thread=False)
def ask(code: Code) -> Response[str]:
    """Show the button."""
    del code
    return page("Sign in", _ASK)


@post("/sign-in/{code:str}", include_in_schema=False)
async def redeem(code: Code, request: Request[Any, Any, State], backend: Services) -> Response[Any]:
    """Exchange the code for a cookie and go to the start page."""
    if same_origin(request) is False:
        return page("Sign in", _FOREIGN, status=403, refused=True)
    try:
        token = (await backend.call(REDEEM_SIGN_IN, RedeemSignIn(digest(code)))).token
    except (NotFound, Unauthenticated, InvalidRequest, Conflict, Forbidden):
        return page("Sign in", _GONE, status=410, refused=True)
    except SteersmanError as error:
        return page("Sign in", _LATER, status=STATUS.get(error.code, 500), refused=True)
    cookie = Cookie(
        key=COOKIE,
        value=token,
        path="/",
        max_age=COOKIE_DAYS * 86_400,
        httponly=True,
        secure=request.url.scheme == "https",
        samesite="strict",
    )
    return Redirect("/", status_code=303, cookies=[cookie])
