"""What an administrator chooses. No other module of this plugin knows where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from steersman_contracts.addresses import PrivateHosts

PREFIX: Final = "STEERSMAN_PLUGIN_WEB_"
BackendName: TypeAlias = Literal["searxng", "brave", "tavily", "exa", "ddgs"]
BACKENDS: Final[tuple[BackendName, ...]] = ("searxng", "brave", "tavily", "exa", "ddgs")
_SWITCH: Final = {"true": True, "1": True, "on": True, "false": False, "0": False, "off": False}


class BadSetting(ValueError):
    """A setting has a value that means nothing. The message names it and never holds a key."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Read once, when the plugin is loaded.

    Attributes:
        search: The backend of `web_search`; None takes the first that has its URL or key. `ddgs`
            has neither, so it is used only when it is named here.
        searxng_url: The base URL of a SearXNG instance that answers in JSON.
        brave_key: Of the Brave Search API.
        tavily_key: Of Tavily.
        exa_key: Of Exa.
        brave_url: Where the Brave Search API is.
        tavily_url: Where Tavily is.
        exa_url: Where Exa is.
        fetch: Whether `web_fetch` is offered.
        robots: Whether `web_fetch` asks robots.txt first.
        private_hosts: What `web_fetch` may read although its address is not public.
    """

    search: BackendName | None = None
    searxng_url: str = ""
    brave_key: str = field(default="", repr=False)
    tavily_key: str = field(default="", repr=False)
    exa_key: str = field(default="", repr=False)
    brave_url: str = "https://api.search.brave.com"
    tavily_url: str = "https://api.tavily.com"
    exa_url: str = "https://api.exa.ai"
    fetch: bool = True
    robots: bool = True
    private_hosts: PrivateHosts = field(default_factory=PrivateHosts)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read `STEERSMAN_PLUGIN_WEB_<FIELD>`; what is empty counts as not set.

    Raises:
        BadSetting: A value means nothing.
    """
    env = os.environ if environment is None else environment
    given = {
        name: value
        for name in Settings.__dataclass_fields__
        if (value := env.get(PREFIX + name.upper(), "").strip())
    }
    texts = {name: given[name] for name in given if name.endswith(("_url", "_key"))}
    for name, value in texts.items():
        if name.endswith("_url") and not value.startswith(("http://", "https://")):
            raise BadSetting(f"{PREFIX}{name.upper()} must begin with http:// or https://")
    try:
        private_hosts = PrivateHosts.parse(given.get("private_hosts", ""))
    except ValueError as error:
        raise BadSetting(f"{PREFIX}PRIVATE_HOSTS: {error}") from error
    return Settings(
        search=_backend(given.get("search", "")),
        fetch=_switch("fetch", given.get("fetch", "on")),
        robots=_switch("robots", given.get("robots", "on")),
        private_hosts=private_hosts,
        **texts,
    )


def _backend(value: str) -> BackendName | None:
    if value and value not in BACKENDS:
        raise BadSetting(f"{PREFIX}SEARCH must be one of {', '.join(BACKENDS)}, not {value!r}")
    return value or None


def _switch(name: str, value: str) -> bool:
    if value.lower() not in _SWITCH:
        raise BadSetting(f"{PREFIX}{name.upper()} must be on or off, not {value!r}")
    return _SWITCH[value.lower()]
