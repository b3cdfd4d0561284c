"""Which models a provider says it has.

Asked with a plain HTTP client and not with the SDKs: those follow redirects with their key headers,
read answers of any length, and build their own types from what compatible servers leave out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import httpx2
import msgspec
import structlog

from steersman_chatloop.providers.classify import provider_name
from steersman_chatloop.providers.clients import tls
from steersman_chatloop.providers.signals import ReportedFault
from steersman_chatloop.served_clouds import Proofs, questions, read
from steersman_contracts.cloud_keys import CLOUDS
from steersman_contracts.parts import JsonObject
from steersman_contracts.rpc.models import ModelId
from steersman_contracts.rpc.providers import ListServedModels, ServedModel, ServedModels
from steersman_contracts.rpc.worker import PROVIDER_ACCESS, GetProviderAccess, ModelAccess
from steersman_runtime.rpc import RpcClient

log = structlog.stdlib.get_logger()

DEADLINE_S: Final = 10.0
MAX_BYTES: Final = 8 * 2**20
"""Of one page. OpenRouter's list of everything is near one megabyte."""
MAX_MODELS: Final = 2000
_MAX_PAGES: Final = 20
_MAX_REDIRECTS: Final = 3
_ANTHROPIC: Final = "https://api.anthropic.com"
_OPENAI: Final = "https://api.openai.com/v1"
_GOOGLE: Final = "https://generativelanguage.googleapis.com"

# How compatible servers call the two limits, the one that the server is run with first.
_CONTEXT: Final = (
    "max_model_len",  # vLLM
    "n_ctx",  # llama.cpp, in `meta`
    "loaded_context_length",  # LM Studio
    "context_length",  # OpenRouter, Together
    "context_window",  # Groq
    "max_context_length",  # Mistral
    "max_input_tokens",
    "n_ctx_train",
)
_OUTPUT: Final = ("max_completion_tokens", "max_output_tokens", "max_tokens")


class NoListing(Exception):
    """The provider gives no list; the text is a sentence without secrets and addresses."""


class Page(NamedTuple):
    """One page of a list, and the query of the next one."""

    models: list[ServedModel]
    following: Mapping[str, str] | None = None


class ServedModelLists:
    """Answers which models a provider serves, as itself says."""

    def __init__(self, rpc: RpcClient, *, deadline_s: float = DEADLINE_S) -> None:
        self._rpc = rpc
        self._deadline_s = deadline_s
        self._proofs = Proofs()

    async def list_models(self, request: ListServedModels) -> ServedModels:
        """Ask the provider. What goes wrong there is an answer and no error."""
        wanted = GetProviderAccess(request.actor, request.provider_id)
        access = (await self._rpc.call(PROVIDER_ACCESS, wanted)).model
        name = provider_name(access.provider_id)
        if access.disabled == "missing_key":
            return ServedModels("missing_api_key", f"There is no API key for {name}.")
        if access.provider_type == "demo":
            return ServedModels("fetch_failed", "The demo lists no models of its own.")
        try:
            async with asyncio.timeout(self._deadline_s):
                if access.provider_type in CLOUDS:
                    models = await fetch_from_cloud(access, self._proofs)
                else:
                    models = await fetch(access)
        except NoListing as error:
            reason = str(error)
        except TimeoutError:
            reason = f"did not answer within {self._deadline_s:g} s."
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, UnicodeError) as error:
            log.info("listing.failed", provider=access.provider_id, error=type(error).__name__)
            reason = "cannot be reached: look at its base URL and at the network."
        else:
            return ServedModels("available", models=models)
        return ServedModels("fetch_failed", f"{name[:1].upper()}{name[1:]} {reason}")


async def fetch(access: ModelAccess) -> tuple[ServedModel, ...]:
    """Ask for all pages.

    Raises:
        NoListing: The provider refuses, or answers with something else.
        httpx2.HTTPError: It cannot be reached.
    """
    address, headers = _question(access)
    found: dict[str, ServedModel] = {}
    query: Mapping[str, str] | None = _first_query(access)
    async with httpx2.AsyncClient(verify=tls(), headers=headers, timeout=DEADLINE_S) as http:
        for _ in range(_MAX_PAGES):
            content = await _get(http, httpx2.URL(address, params=query))
            page = read_page(access.provider_type, content)
            found |= {model.model_id: model for model in page.models}
            if page.following is None or len(found) >= MAX_MODELS:
                break
            query = {**_first_query(access), **page.following}
    if not found:
        raise NoListing("lists no models.")
    return tuple(found[name] for name in sorted(found))[:MAX_MODELS]


async def fetch_from_cloud(access: ModelAccess, proofs: Proofs) -> tuple[ServedModel, ...]:
    """Ask a cloud for all lists and pages, each with a proof of its own.

    Raises:
        NoListing: The cloud refuses, or answers with something else.
        httpx2.HTTPError: It cannot be reached.
    """
    found: dict[str, ServedModel] = {}
    async with httpx2.AsyncClient(verify=tls(), timeout=DEADLINE_S) as http:
        for question in questions(access):
            query = dict(question.query)
            for _ in range(_MAX_PAGES):
                try:
                    url, headers = await proofs.headers(access, question.address, query)
                except ReportedFault as fault:
                    raise NoListing("gives no access for this key.") from fault
                content = await _get(http, httpx2.URL(url), headers)
                try:
                    models, more = read(question, content)
                except (msgspec.DecodeError, UnicodeError, ValueError) as error:
                    raise NoListing("answers with something else than a list.") from error
                found |= {model.model_id: model for model in models}
                if more is None or len(found) >= MAX_MODELS:
                    break
                query[question.more] = more
    if not found:
        raise NoListing("lists no models.")
    return tuple(found[name] for name in sorted(found))[:MAX_MODELS]


def _question(access: ModelAccess) -> tuple[str, dict[str, str]]:
    key = access.api_key
    base = (access.base_url or "").rstrip("/")
    match access.provider_type:
        case "anthropic":
            address = (base or _ANTHROPIC).removesuffix("/v1") + "/v1/models"
            headers = {"anthropic-version": "2023-06-01"} | ({"x-api-key": key} if key else {})
        case "google":
            address = (base or _GOOGLE).removesuffix("/v1beta") + "/v1beta/models"
            headers = {"x-goog-api-key": key} if key else {}
        case _:
            address = (base or _OPENAI) + "/models"
            headers = {"Authorization": f"Bearer {key}"} if key else {}
    return address, headers | access.headers


def _first_query(access: ModelAccess) -> dict[str, str]:
    match access.provider_type:
        case "anthropic":
            return {"limit": "1000"}
        case "google":
            return {"pageSize": "1000"}
        case _:
            return {}


async def _get(
    http: httpx2.AsyncClient, url: httpx2.URL, headers: Mapping[str, str] | None = None
) -> bytes:
    for _ in range(_MAX_REDIRECTS + 1):
        content = b""
        async with http.stream("GET", url, headers=headers, follow_redirects=False) as response:
            if response.has_redirect_location:
                target = url.join(response.headers["location"])
                # The key is for this server alone, whatever header it travels in.
                if _origin(target) != _origin(url):
                    raise NoListing("sends us on to another server, which does not get the key.")
                url = target
                continue
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_BYTES:
                    raise NoListing("answers with a list that is too long.")
            status = response.status_code
            # Google says it with 400.
            if status in (401, 403) or (status == 400 and b"API_KEY_INVALID" in content):
                raise NoListing(f"did not accept the API key ({status}).")
            if status != 200:
                raise NoListing(f"answers {status} when asked for its models.")
        return content
    raise NoListing("sends us on again and again.")


def _origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    default = {"http": 80, "https": 443}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def read_page(kind: str, content: bytes) -> Page:
    """Read one page; entries that cannot be models of ours are left out.

    Raises:
        NoListing: It is no list of models.
    """
    try:
        body = msgspec.json.decode(content, type=JsonObject)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NoListing("answers with something else than a list of models.") from error
    entries: object = body.get("models" if kind == "google" else "data")
    if not isinstance(entries, list):
        raise NoListing("answers with something else than a list of models.")
    read = _google if kind == "google" else _other
    listed = [
        read(cast("JsonObject", entry))
        for entry in cast("list[object]", entries)
        if isinstance(entry, dict)
    ]
    following: dict[str, str] | None = None
    last, token = body.get("last_id"), body.get("nextPageToken")
    if kind == "anthropic" and body.get("has_more") is True and isinstance(last, str):
        following = {"after_id": last}
    elif kind == "google" and isinstance(token, str) and token:
        following = {"pageToken": token}
    return Page([model for model in listed if model is not None], following)


def _google(entry: JsonObject) -> ServedModel | None:
    methods: Any = entry.get("supportedGenerationMethods", ["generateContent"])
    if not isinstance(methods, list) or "generateContent" not in methods:
        return None
    name = entry.get("name")
    return _model(
        name.removeprefix("models/") if isinstance(name, str) else None,
        entry.get("displayName"),
        _number(entry, ("inputTokenLimit",)),
        _number(entry, ("outputTokenLimit",)),
    )


def _other(entry: JsonObject) -> ServedModel | None:
    below = [entry.get(key) for key in ("meta", "top_provider")]
    merged: JsonObject = {}
    for values in [*below, entry]:
        if isinstance(values, dict):
            merged |= cast("JsonObject", values)
    return _model(
        entry.get("id"),
        entry.get("display_name") or entry.get("name"),
        _number(merged, _CONTEXT),
        _number(merged, _OUTPUT),
    )


def _number(entry: JsonObject, names: tuple[str, ...]) -> int | None:
    values = (entry.get(name) for name in names)
    return next(
        (v for v in values if isinstance(v, int) and not isinstance(v, bool) and 0 < v < 2**31),
        None,
    )


def _model(
    model_id: object, display_name: object, context: int | None, output: int | None
) -> ServedModel | None:
    try:
        checked = msgspec.convert(model_id, ModelId)
    except msgspec.ValidationError:
        return None
    title = display_name[:100] if isinstance(display_name, str) else ""
    return ServedModel(checked, title, context, output)
