"""Tools that search the web and read its pages. What comes back is material, not an instruction."""

from __future__ import annotations

import logging
from typing import Any

from steersman_contracts.guarded import Resolve, resolve
from steersman_contracts.hooks import Tool, hookimpl
from steersman_plugin_web import fetch, search
from steersman_plugin_web.backends import choose
from steersman_plugin_web.getting import Getter
from steersman_plugin_web.robots import Robots
from steersman_plugin_web.settings import Settings, read_settings

log = logging.getLogger(__name__)


@hookimpl
def tools() -> list[Tool[Any]]:
    """List the tools that the settings allow: without a backend there is no `web_search`."""
    return offered(read_settings())


def offered(settings: Settings, *, resolve: Resolve = resolve) -> list[Tool[Any]]:
    """List the tools for settings; `resolve` finds the addresses of hosts for `web_fetch`."""
    found: list[Tool[Any]] = []
    backend = choose(settings)
    if isinstance(backend, str):
        log.warning("web_search is off: %s", backend)
    else:
        log.info("web_search asks %s", backend.name)
        found.append(
            Tool(
                "web_search",
                search.WEB_SEARCH,
                search.WebSearch,
                search.Searcher(backend),
                timeout_s=search.TIMEOUT_S,
                idempotent=True,
            )
        )
    if not settings.fetch:
        log.warning("web_fetch is off: the setting fetch says so")
        return found
    getter = Getter(settings.private_hosts, resolve)
    fetcher = fetch.Fetcher(getter, Robots(getter) if settings.robots else None)
    found.append(
        Tool(
            "web_fetch",
            fetch.WEB_FETCH,
            fetch.WebFetch,
            fetcher,
            timeout_s=fetch.TIMEOUT_S,
            idempotent=True,
        )
    )
    return found
