"""What an administrator chooses, and which tools come of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from steersman_plugin_web import offered
from steersman_plugin_web.backends import Backend, choose
from steersman_plugin_web.settings import PREFIX, BadSetting, Settings, read_settings


def read(**given: str) -> Settings:
    return read_settings({PREFIX + name.upper(): value for name, value in given.items()})


def names(settings: Settings) -> list[str]:
    return [tool.name for tool in offered(settings)]


def test_nothing_set_means_pages_without_search_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert names(read()) == ["web_fetch"]
    assert caplog.messages == [
        "web_search is off: no backend is set: give searxng_url, brave_key, tavily_key or exa_key, "
        "or choose ddgs"
    ]


def test_both_can_be_off() -> None:
    assert names(read(fetch="off")) == []


@pytest.mark.parametrize(
    ("given", "chosen"),
    [
        ({"searxng_url": "http://s"}, "searxng"),
        ({"brave_key": "k"}, "brave"),
        ({"tavily_key": "k"}, "tavily"),
        ({"exa_key": "k"}, "exa"),
        ({"exa_key": "k", "searxng_url": "http://s"}, "searxng"),
        ({"exa_key": "k", "searxng_url": "http://s", "search": "exa"}, "exa"),
        ({"search": "ddgs"}, "ddgs"),
    ],
)
def test_a_backend_is_the_one_that_is_named_or_the_first_that_is_set(
    given: dict[str, str], chosen: str
) -> None:
    settings = read(**given)
    backend = choose(settings)
    assert not isinstance(backend, str)
    assert backend.name == chosen
    assert names(settings) == ["web_search", "web_fetch"]


def test_a_backend_that_is_named_without_its_key_is_off_and_says_so() -> None:
    assert choose(read(search="brave")) == "brave is chosen, but brave_key is not set"
    assert choose(read(search="searxng")) == "searxng is chosen, but searxng_url is not set"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"search": "google"}, "SEARCH must be one of searxng, brave"),
        ({"robots": "maybe"}, "ROBOTS must be on or off"),
        ({"searxng_url": "searx.example"}, "SEARXNG_URL must begin with http"),
        ({"private_hosts": "*"}, "PRIVATE_HOSTS: '\\*' is no host"),
    ],
)
def test_a_value_that_means_nothing_is_refused(given: dict[str, str], said: str) -> None:
    with pytest.raises(BadSetting, match=PREFIX + said):
        read(**given)


@pytest.mark.parametrize("name", ["brave", "tavily", "exa"])
def test_a_key_is_in_no_representation(name: str) -> None:
    given: dict[str, Any] = {f"{name}_key": "hunter2"}
    settings = read(**given)
    backend: Backend | str = choose(settings)
    assert "hunter2" not in repr(settings) + repr(backend)
