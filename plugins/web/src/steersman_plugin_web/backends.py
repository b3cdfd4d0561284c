"""The search engines behind `web_search`: one request each, and what their answers mean."""

from __future__ import annotations

import asyncio
import html
import importlib
import importlib.util
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar, cast

import httpx2
import msgspec

from steersman_plugin_web.getting import USER_AGENT
from steersman_plugin_web.settings import BACKENDS, BackendName, Settings

DEADLINE_S: Final = 15.0
ANSWER_MAX: Final = 4 * 1024 * 1024
TITLE_MAX: Final = 200
SNIPPET_MAX: Final = 500

_T = TypeVar("_T")


class SearchFailed(Exception):
    """There is no answer. The message is for the model, and holds no key."""


class Found(msgspec.Struct, frozen=True):
    """One result."""

    url: str
    title: str
    snippet: str


class Backend(Protocol):
    """A search engine."""

    @property
    def name(self) -> str:
        """As in the settings."""
        ...

    async def search(self, query: str, count: int) -> list[Found]:
        """Find at most `count` (1 to 20) pages, the best first. The caller sets the deadline.

        Raises:
            SearchFailed: There is no answer, and why.
        """
        ...


class _Result(msgspec.Struct):
    """A result of any of the engines; each names the snippet in its own way."""

    url: str
    title: str | None = None
    content: str | None = None
    description: str | None = None
    highlights: list[str] | None = None


class _Results(msgspec.Struct):
    results: list[_Result]


class _Web(msgspec.Struct):
    results: list[_Result] = []


class _BraveAnswer(msgspec.Struct):
    web: _Web | None = None


@dataclass(frozen=True, slots=True)
class SearXNG:
    """An instance of SearXNG; its `search.formats` must hold `json`."""

    url: str
    name: str = "searxng"

    async def search(self, query: str, count: int) -> list[Found]:
        """Ask `/search`; it has no parameter for the number."""
        try:
            body = await _ask(
                self.name,
                httpx2.Request(
                    "GET",
                    f"{self.url.rstrip('/')}/search",
                    params={"q": query, "format": "json"},
                ),
            )
        except _Status as status:
            if status.code == 403:
                raise SearchFailed(
                    "searxng refuses to answer in JSON; its administrator has to add json to "
                    "search.formats"
                ) from status
            raise
        return _clean(_decode(self.name, body, _Results).results, count)


@dataclass(frozen=True, slots=True)
class Brave:
    """The Brave Search API."""

    url: str
    key: str = field(repr=False)
    name: str = "brave"

    async def search(self, query: str, count: int) -> list[Found]:
        """Ask for web results; it takes at most 20, and 400 characters."""
        body = await _ask(
            self.name,
            httpx2.Request(
                "GET",
                f"{self.url.rstrip('/')}/res/v1/web/search",
                params={"q": query, "count": count, "result_filter": "web"},
                headers={"X-Subscription-Token": self.key},
            ),
        )
        answer = _decode(self.name, body, _BraveAnswer)
        return _clean(answer.web.results if answer.web else [], count)


@dataclass(frozen=True, slots=True)
class Tavily:
    """Tavily."""

    url: str
    key: str = field(repr=False)
    name: str = "tavily"

    async def search(self, query: str, count: int) -> list[Found]:
        """Ask for a basic search, which costs one credit."""
        body = await _ask(
            self.name,
            httpx2.Request(
                "POST",
                f"{self.url.rstrip('/')}/search",
                json={"query": query, "max_results": count, "search_depth": "basic"},
                headers={"Authorization": f"Bearer {self.key}"},
            ),
        )
        return _clean(_decode(self.name, body, _Results).results, count)


@dataclass(frozen=True, slots=True)
class Exa:
    """Exa."""

    url: str
    key: str = field(repr=False)
    name: str = "exa"

    async def search(self, query: str, count: int) -> list[Found]:
        """Ask for results with the passages that fit the query."""
        body = await _ask(
            self.name,
            httpx2.Request(
                "POST",
                f"{self.url.rstrip('/')}/search",
                json={
                    "query": query,
                    "type": "auto",
                    "numResults": count,
                    "contents": {"highlights": {"maxCharacters": SNIPPET_MAX}},
                },
                headers={"x-api-key": self.key},
            ),
        )
        return _clean(_decode(self.name, body, _Results).results, count)


class _Ddgs(Protocol):
    def text(self, query: str, **options: Any) -> list[dict[str, Any]]: ...


@dataclass(frozen=True, slots=True)
class Ddgs:
    """The library `ddgs`, which asks search engines as a browser would; no key."""

    name: str = "ddgs"

    async def search(self, query: str, count: int) -> list[Found]:
        """Search in a thread: the library blocks."""
        return await asyncio.to_thread(self._search, query, count)

    def _search(self, query: str, count: int) -> list[Found]:
        module = importlib.import_module("ddgs")
        client = cast("_Ddgs", module.DDGS(timeout=int(DEADLINE_S) - 5))
        try:
            rows = client.text(query, max_results=count)
        except Exception as error:
            if "no results" in str(error).lower():
                return []
            raise SearchFailed(f"ddgs failed ({type(error).__name__}); try again later") from error
        results = [
            _Result(
                str(row.get("href") or ""), str(row.get("title") or ""), str(row.get("body") or "")
            )
            for row in rows
        ]
        return _clean(results, count)


def choose(settings: Settings) -> Backend | str:
    """The backend that the settings mean, or why there is none, in words for an administrator."""
    names = BACKENDS if settings.search is None else (settings.search,)
    for name in names:
        backend = _backend(name, settings)
        if backend is not None and (name != "ddgs" or settings.search == "ddgs"):
            return backend
    if settings.search == "ddgs":
        return "the library ddgs is not installed (pip install 'steersman-plugin-web[ddgs]')"
    if settings.search is not None:
        what = "url" if settings.search == "searxng" else "key"
        return f"{settings.search} is chosen, but {settings.search}_{what} is not set"
    return "no backend is set: give searxng_url, brave_key, tavily_key or exa_key, or choose ddgs"


def _backend(name: BackendName, settings: Settings) -> Backend | None:
    match name:
        case "searxng":
            return SearXNG(settings.searxng_url) if settings.searxng_url else None
        case "brave":
            return Brave(settings.brave_url, settings.brave_key) if settings.brave_key else None
        case "tavily":
            return Tavily(settings.tavily_url, settings.tavily_key) if settings.tavily_key else None
        case "exa":
            return Exa(settings.exa_url, settings.exa_key) if settings.exa_key else None
        case "ddgs":
            return Ddgs() if importlib.util.find_spec("ddgs") else None


class _Status(SearchFailed):
    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} {_MEANINGS.get(code, f'answered with HTTP status {code}')}")
        self.code = code


_KEY: Final = "does not accept the key that is set; an administrator has to look"
_SPENT: Final = "says that the plan of its key is used up; an administrator has to look"
_MEANINGS: Final = {
    401: _KEY,
    403: _KEY,
    # Brave's answer to a wrong key, and to a query that it does not take.
    422: "does not accept the query or the key",
    402: _SPENT,
    432: _SPENT,
    433: _SPENT,
    429: "gets too many requests; try again in a while",
}


async def _ask(name: str, request: httpx2.Request) -> bytes:
    request.headers["Accept"] = "application/json"
    request.headers["User-Agent"] = USER_AGENT
    # Redirects are not followed: the key would go along.
    async with httpx2.AsyncClient(timeout=DEADLINE_S) as client:
        try:
            response = await client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise _Status(name, response.status_code)
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_MAX:
                        raise SearchFailed(f"{name} answers with more than {ANSWER_MAX} bytes")
            finally:
                await response.aclose()
        except httpx2.TimeoutException as error:
            raise SearchFailed(f"{name} did not answer in time; try again later") from error
        except httpx2.HTTPError as error:
            raise SearchFailed(f"{name} cannot be reached ({type(error).__name__})") from error
    return bytes(body)


def _decode(name: str, body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise SearchFailed(f"{name} answered with what is not its format") from error


def _clean(results: Iterable[_Result], count: int) -> list[Found]:
    """The first `count` results that are web pages, each once."""
    found: dict[str, Found] = {}
    for result in results:
        if len(found) == count:
            break
        url = result.url.strip()
        if not url.startswith(("http://", "https://")) or len(url) > 2_000 or url in found:
            continue
        passages = " … ".join(result.highlights or [])
        snippet = _plain(result.content or result.description or passages, SNIPPET_MAX)
        found[url] = Found(url, _plain(result.title or "", TITLE_MAX) or url, snippet)
    return list(found.values())


def _plain(text: str, length: int) -> str:
    # Some engines mark the words of the query with tags.
    text = html.unescape(re.sub(r"</?[a-zA-Z][^<>]{0,200}>", "", text[: 20 * length]))
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"
