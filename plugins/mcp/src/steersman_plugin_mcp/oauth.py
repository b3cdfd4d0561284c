"""Signing in at a server: OAuth 2.1 with PKCE, as the SDK's parts discover and register it.

The SDK's own flow waits for the person inside of one request and keeps everything in memory. Here
a sign-in is begun by one process and finished by any, minutes later, so the steps stand alone.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote, urlencode, urlsplit

import httpx2
from mcp.client.auth import OAuthFlowError, OAuthRegistrationError, OAuthTokenError
from mcp.client.auth.oauth2 import PKCEParameters, check_registration_usable
from mcp.client.auth.utils import (
    build_oauth_authorization_server_metadata_discovery_urls,
    build_protected_resource_metadata_discovery_urls,
    create_client_registration_request,
    create_oauth_metadata_request,
    extract_resource_metadata_from_www_auth,
    extract_scope_from_www_auth,
    get_client_metadata_scopes,
    handle_auth_metadata_response,
    handle_protected_resource_response,
    handle_registration_response,
    issuers_match,
)
from mcp.shared.auth import (
    OAuthClientMetadata,
    OAuthMetadata,
    OAuthToken,
    ProtectedResourceMetadata,
)
from mcp.shared.auth_utils import check_resource_allowed, resource_url_from_server_url
from pydantic import AnyUrl, ValidationError

from steersman_contracts.rpc.mcp import OpenedServer, PendingLogin, Tokens
from steersman_contracts.rpc.mcp_clients import Client
from steersman_plugin_mcp.http import Reach, bounded_client
from steersman_plugin_mcp.wire import Wire

_STEP_S: Final = 8.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_PROBE: Final = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


class SignInFailed(Exception):
    """A step did not work; the text is for the person who signs in."""


class Refused(SignInFailed):
    """The server does not want this sign-in (any more): only a new one can help."""


@dataclass(frozen=True, slots=True)
class _Found:
    """What a server says about where to sign in."""

    server: OpenedServer
    metadata: OAuthMetadata
    resource: str | None
    scope: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that waits for its person.

    Attributes:
        url: Where the person has to go.
        state: Comes back with them.
        pending: What is needed then.
    """

    url: str
    state: str
    pending: PendingLogin


class Registrations(Protocol):
    """What we are known as at sign-in servers, for one MCP server."""

    async def find(self, issuer: str, redirect_uri: str) -> Client | None:
        """The registration there, if it can still be used."""
        ...

    async def keep(
        self, issuer: str, redirect_uri: str, client: Client, expires_in_s: float | None
    ) -> None:
        """Use this one from now on."""
        ...


def client_for(reach: Reach) -> httpx2.AsyncClient:
    """A client for sign-in servers, held to the same addresses and sizes as MCP itself."""
    return bounded_client(None, httpx2.Timeout(_STEP_S), Wire(), reach)


async def begin(
    server: OpenedServer, redirect_uri: str, reach: Reach, registrations: Registrations
) -> Begun:
    """Find out where to sign in, make us known there, and say where the person has to go.

    Args:
        server: Which one.
        redirect_uri: Where the person comes back.
        reach: How to get there.
        registrations: What we are known as there already.

    Raises:
        SignInFailed: It cannot be done; the text says why.
    """
    async with client_for(reach) as client:
        try:
            found = await _discover(server, client)
            known = await _client(found, redirect_uri, client, registrations)
        except (OAuthFlowError, OAuthRegistrationError) as error:
            raise SignInFailed(str(error)[:300]) from error
        except httpx2.HTTPError as error:
            raise SignInFailed(str(error)[:300] or type(error).__name__) from error
    proof = PKCEParameters.generate()
    state = secrets.token_urlsafe(32)
    asked = {
        "response_type": "code",
        "client_id": known.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": proof.code_challenge,
        "code_challenge_method": "S256",
    }
    if found.resource is not None:
        asked["resource"] = found.resource
    if found.scope:
        asked["scope"] = found.scope
        if "offline_access" in found.scope.split():
            asked["prompt"] = "consent"
    page = str(found.metadata.authorization_endpoint)
    pending = PendingLogin(
        proof.code_verifier,
        redirect_uri,
        known.client_id,
        str(found.metadata.token_endpoint),
        client_secret=known.client_secret,
        auth_method=known.auth_method,
        resource=found.resource,
        scope=found.scope,
        issuer=str(found.metadata.issuer),
        issuer_is_told=bool(found.metadata.authorization_response_iss_parameter_supported),
    )
    return Begun(f"{page}{'&' if '?' in page else '?'}{urlencode(asked)}", state, pending)


async def finish(
    pending: PendingLogin, code: str, issuer: str | None, reach: Reach
) -> tuple[Tokens, float | None]:
    """Exchange the code for tokens, and say for how many seconds they are good.

    Raises:
        SignInFailed: It cannot be done; the text says why.
    """
    # RFC 9207: an answer of another server must not be sent to this one.
    if issuer is not None and pending.issuer is not None and issuer != pending.issuer:
        raise SignInFailed("the answer comes from another sign-in server")
    if issuer is None and pending.issuer_is_told:
        raise SignInFailed("the answer does not say which sign-in server it comes from")
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": pending.redirect_uri,
        "code_verifier": pending.verifier,
    }
    held = Tokens(
        "",
        pending.client_id,
        pending.token_endpoint,
        client_secret=pending.client_secret,
        auth_method=pending.auth_method,
        resource=pending.resource,
        scope=pending.scope,
    )
    return _held(held, await _ask(held, form, reach))


async def renew(held: Tokens, reach: Reach) -> tuple[Tokens, float | None]:
    """Exchange the refresh token for new tokens.

    Raises:
        Refused: Only a new sign-in can help.
        SignInFailed: It did not work this time.
    """
    if held.refresh_token is None:
        raise Refused("there is nothing to renew it with")
    form = {"grant_type": "refresh_token", "refresh_token": held.refresh_token}
    return _held(held, await _ask(held, form, reach))


def _held(before: Tokens, new: OAuthToken) -> tuple[Tokens, float | None]:
    tokens = Tokens(
        new.access_token,
        before.client_id,
        before.token_endpoint,
        # Servers that do not rotate it leave it out (RFC 6749, section 6).
        refresh_token=new.refresh_token or before.refresh_token,
        client_secret=before.client_secret,
        auth_method=before.auth_method,
        resource=before.resource,
        scope=new.scope or before.scope,
    )
    return tokens, None if new.expires_in is None else float(max(0, new.expires_in))


async def _ask(held: Tokens, form: dict[str, str], reach: Reach) -> OAuthToken:
    """Ask the token endpoint. It is proved who asks, as the registration has settled it."""
    headers = {"accept": "application/json"}
    form = {"client_id": held.client_id, **form}
    if held.resource is not None:
        form["resource"] = held.resource
    secret = held.client_secret
    auth: httpx2.BasicAuth | None = None
    if secret is not None and held.auth_method == "client_secret_basic":
        auth = httpx2.BasicAuth(quote(held.client_id, safe=""), quote(secret, safe=""))
    elif secret is not None:
        form["client_secret"] = secret
    try:
        async with client_for(reach) as client:
            answer = await client.post(
                held.token_endpoint,
                data=form,
                headers=headers,
                auth=auth or httpx2.USE_CLIENT_DEFAULT,
            )
    except httpx2.HTTPError as error:
        raise SignInFailed(str(error)[:300] or type(error).__name__) from error
    if answer.status_code in (400, 401):
        raise Refused(f"the sign-in server refused with HTTP {answer.status_code}")
    if answer.status_code not in (200, 201):
        raise SignInFailed(f"the sign-in server answered with HTTP {answer.status_code}")
    try:
        return OAuthToken.model_validate_json(answer.content)
    except (ValidationError, OAuthTokenError) as error:
        raise SignInFailed("the sign-in server's answer holds no token") from error


async def _discover(server: OpenedServer, client: httpx2.AsyncClient) -> _Found:
    url = server.url or ""
    challenge = await _challenge(server, client)
    protected: ProtectedResourceMetadata | None = None
    hint = extract_resource_metadata_from_www_auth(challenge)
    for place in build_protected_resource_metadata_discovery_urls(hint, url):
        answer = await client.send(create_oauth_metadata_request(place))
        if answer.status_code >= 500 or answer.status_code == 429:
            raise SignInFailed(f"it answered with HTTP {answer.status_code}")
        if (protected := await handle_protected_resource_response(answer)) is not None:
            break
    resource: str | None = None
    if protected is not None:
        resource = str(protected.resource)
        if not check_resource_allowed(resource_url_from_server_url(url), resource):
            raise SignInFailed(f"it says that it is {resource[:200]}, which is another server")
    issuer = None if protected is None else str(protected.authorization_servers[0])
    metadata = await _metadata(issuer, url, client)
    scope = server.oauth_scope or get_client_metadata_scopes(
        extract_scope_from_www_auth(challenge),
        protected,
        metadata,
        ["authorization_code", "refresh_token"],
    )
    return _Found(server, metadata, resource, scope)


async def _challenge(server: OpenedServer, client: httpx2.AsyncClient) -> httpx2.Response:
    """Ask without a token: the refusal says where to sign in."""
    if server.transport == "sse":
        request = client.build_request("GET", server.url or "")
    else:
        request = client.build_request("POST", server.url or "", json=_PROBE)
    request.headers["accept"] = "application/json, text/event-stream"
    answer = await client.send(request, stream=True)
    await answer.aclose()  # the headers are all that is wanted, and a stream may go on for ever
    return answer


async def _metadata(issuer: str | None, url: str, client: httpx2.AsyncClient) -> OAuthMetadata:
    parts = urlsplit(url)
    expected = issuer or f"{parts.scheme}://{parts.netloc}"
    for place in build_oauth_authorization_server_metadata_discovery_urls(issuer, url):
        answer = await client.send(create_oauth_metadata_request(place))
        goes_on, metadata = await handle_auth_metadata_response(answer)
        if metadata is not None:
            _check(metadata, expected)
            return metadata
        if not goes_on:
            break
    raise SignInFailed("it does not say where to sign in")


def _check(metadata: OAuthMetadata, expected: str) -> None:
    if not issuers_match(str(metadata.issuer), expected):
        raise SignInFailed("its sign-in server says that it is another one")
    proofs = metadata.code_challenge_methods_supported
    if proofs is None or "S256" not in proofs:
        raise SignInFailed("its sign-in server does not support PKCE with S256")
    endpoints = (
        metadata.authorization_endpoint,
        metadata.token_endpoint,
        metadata.registration_endpoint,
    )
    for endpoint in endpoints:
        if endpoint is None:
            continue
        parts = urlsplit(str(endpoint))
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise SignInFailed("its sign-in server does not use https")


async def _client(
    found: _Found, redirect_uri: str, client: httpx2.AsyncClient, registrations: Registrations
) -> Client:
    """As whom we ask: as was configured, as we are known there, or as a new registration says."""
    server, issuer = found.server, str(found.metadata.issuer)
    if server.oauth_client_id is not None:
        secret = server.oauth_client_secret
        methods = found.metadata.token_endpoint_auth_methods_supported
        basic = methods is None or "client_secret_basic" in methods  # what RFC 8414 assumes
        method = "client_secret_basic" if basic else "client_secret_post"
        return Client(server.oauth_client_id, secret, None if secret is None else method)
    if (known := await registrations.find(issuer, redirect_uri)) is not None:
        return known
    made, expires_in_s = await _register(found, redirect_uri, client)
    await registrations.keep(issuer, redirect_uri, made, expires_in_s)
    return made


async def _register(
    found: _Found, redirect_uri: str, client: httpx2.AsyncClient
) -> tuple[Client, float | None]:
    """Make us known, and say for how many seconds the secret is good."""
    if found.metadata.registration_endpoint is None:
        raise SignInFailed("its sign-in server registers nobody: set `oauth_client_id`")
    local = urlsplit(redirect_uri).hostname in _LOOPBACK
    wanted = OAuthClientMetadata(
        client_name="Steersman",
        redirect_uris=[AnyUrl(redirect_uri)],
        scope=found.scope,
        application_type="native" if local else "web",
    )
    request = create_client_registration_request(found.metadata, wanted, str(found.metadata.issuer))
    answer = await client.send(request)
    if answer.status_code not in (200, 201):
        raise SignInFailed(f"registering there failed with HTTP {answer.status_code}")
    made = await handle_registration_response(answer)
    check_registration_usable(made)
    if not made.client_id:
        raise SignInFailed("registering there gave us no id")
    # 0 is for ever (RFC 7591).
    ends = made.client_secret_expires_at
    expires_in_s = float(max(0.0, ends - time.time())) if ends else None
    return Client(made.client_id, made.client_secret, made.token_endpoint_auth_method), expires_in_s
