"""Where a model is called: people copy base URLs in every form, and servers want one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

from steersman_contracts.rpc.worker import ModelAccess

OPENAI_URL: Final = "https://api.openai.com/v1"
ANTHROPIC_URL: Final = "https://api.anthropic.com"
GOOGLE_URL: Final = "https://generativelanguage.googleapis.com"

_ENDPOINT: Final = re.compile(r"/(?:chat/completions|completions|responses|messages)/?$")
_VERSION: Final = re.compile(r"/v1(?:beta1?)?$")

# Where the API begins when only a host is given; everywhere else it is /v1.
_ROOTS: Final = {
    "openrouter.ai": "/api/v1",
    "api.groq.com": "/openai/v1",
    "ai-gateway.vercel.sh": "/v1",
}
_AUTHORIZATIONS: Final = frozenset({"authorization", "api-key", "x-api-key", "x-goog-api-key"})


class Address(NamedTuple):
    """A base URL in the form that an SDK takes."""

    url: str
    query: dict[str, str]
    """Sent with every request: Azure's older form needs `api-version`."""


def host_of(url: str | None, default: str) -> str:
    """The host of a base URL in lower case; empty when it has none."""
    try:
        return (urlsplit(url or default).hostname or "").lower()
    except ValueError:
        return ""


def is_azure(host: str) -> bool:
    """Say whether the host belongs to Azure's OpenAI service."""
    return host.endswith(
        (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
    )


def openai_address(access: ModelAccess) -> Address:
    """The root under which `/chat/completions` and `/responses` are found."""
    try:
        parts = urlsplit((access.base_url or OPENAI_URL).strip())
    except ValueError:  # the transport says what is wrong with it
        return Address(access.base_url or OPENAI_URL, {})
    path = _ENDPOINT.sub("", parts.path).rstrip("/")
    host = (parts.hostname or "").lower()
    if not path or (path == "/openai" and is_azure(host)):
        path = "/openai/v1" if is_azure(host) else _ROOTS.get(host, "/v1")
    url = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    return Address(url, dict(parse_qsl(parts.query)))


def anthropic_url(access: ModelAccess) -> str:
    """The root under which `/v1/messages` is found."""
    url = _ENDPOINT.sub("", (access.base_url or ANTHROPIC_URL).strip()).rstrip("/")
    return url.removesuffix("/v1")


def google_url(access: ModelAccess) -> str:
    """The whole address of a stream of the model, at the Gemini API or on Vertex."""
    if access.provider_type == "google-vertex":
        return vertex_model_url(access, "google", "streamGenerateContent") + "?alt=sse"
    base = (access.base_url or GOOGLE_URL).strip().rstrip("/")
    model = quote(access.model_id, safe="/:@.-_")
    if "aiplatform" in host_of(base, GOOGLE_URL):
        if not urlsplit(base).path:
            base += "/v1"
        base = base.removesuffix("/publishers/google")
        model = model if "/" in model else f"publishers/google/models/{model}"
    else:
        base = f"{_VERSION.sub('', base)}/v1beta"
        model = model if "/" in model else f"models/{model}"
    return f"{base}/{model}:streamGenerateContent?alt=sse"


def vertex_root(access: ModelAccess) -> str:
    """The root of Vertex AI in a region, with the version of the API."""
    if access.base_url:
        base = access.base_url.strip().rstrip("/")
        return base if urlsplit(base).path else f"{base}/v1"
    match access.region:
        case None | "global":
            host = "aiplatform.googleapis.com"
        case "us" | "eu":  # several regions at once
            host = f"aiplatform.{access.region}.rep.googleapis.com"
        case region:
            host = f"{region}-aiplatform.googleapis.com"
    return f"https://{host}/v1"


def vertex_model_url(access: ModelAccess, publisher: str, method: str) -> str:
    """The address of a method of a model on Vertex AI.

    Without a project it is the one that an API key belongs to.
    """
    root = vertex_root(access)
    if access.project is not None:
        region = access.region or "global"
        root += f"/projects/{quote(access.project, safe=':.')}/locations/{region}"
    model = quote(access.model_id, safe="@.-_")
    return f"{root}/publishers/{publisher}/models/{model}:{method}"


def brings_its_own_key(headers: Mapping[str, str]) -> bool:
    """Say whether the extra headers prove who is calling, so that no other proof is sent."""
    return any(name.lower() in _AUTHORIZATIONS for name in headers)
