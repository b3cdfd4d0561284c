from __future__ import annotations

import json
from typing import Any

import pytest

from steersman_plugin_mcp.config import (
    ApiKey,
    BadConfiguration,
    Configuration,
    CustomHeaders,
    HttpServer,
    StdioServer,
    headers_of,
    parse,
)

ENVIRONMENT = {"KEY": "k-123456", "STEERSMAN_NATS_URL": "nats://secret", "BAD": "a\nb"}


def read(*servers: dict[str, Any]) -> Configuration:
    content = json.dumps({"servers": servers}).encode()
    return parse(content, toml=False, environment=ENVIRONMENT)


def http(**more: Any) -> dict[str, Any]:
    return {"slug": "a", "transport": "http", "url": "https://example.org/mcp", **more}


def test_toml_and_json_say_the_same() -> None:
    toml = b"""
        [[servers]]
        slug = "a"
        transport = "http"
        url = "https://example.org/mcp"
        auth = { type = "api_key", key = "env:KEY" }

        [[servers]]
        slug = "b"
        transport = "stdio"
        command = ["serve", "--fast"]
        env = { KEY = "env:KEY", MODE = "x" }
    """
    read_toml = parse(toml, toml=True, environment=ENVIRONMENT)

    assert read_toml == read(
        http(auth={"type": "api_key", "key": "env:KEY"}),
        {
            "slug": "b",
            "transport": "stdio",
            "command": ["serve", "--fast"],
            "env": {"KEY": "env:KEY", "MODE": "x"},
        },
    )
    first, second = read_toml.servers
    assert isinstance(first, HttpServer)
    assert headers_of(first.auth) == {"Authorization": "Bearer k-123456"}
    assert isinstance(second, StdioServer)
    assert second.env == {"KEY": "k-123456", "MODE": "x"}


def test_headers_are_sent_as_they_are() -> None:
    assert headers_of(ApiKey("k", header="X-Key")) == {"X-Key": "k"}
    assert headers_of(CustomHeaders({"A": "1", "B": "2"})) == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (http(slug="A"), r"slug"),
        (http(slug="a__b"), r"slug"),
        (http(slug="a_"), r"slug"),
        (http(slug="x" * 22), r"slug"),
        (http(slug="a\n"), r"slug"),
        (http(url="file:///etc/passwd"), r"url"),
        (http(url="https://me:pass@example.org/"), "the URL holds a password"),
        (http(transport="carrier pigeon"), "carrier pigeon"),
        (http(colour="red"), "colour"),
        (http(call_timeout_s=0), "call_timeout_s"),
        (http(auth={"type": "api_key", "key": "env:NONE"}), "the environment has no 'NONE'"),
        (
            http(auth={"type": "api_key", "key": "env:STEERSMAN_NATS_URL"}),
            "belongs to the service itself",
        ),
        (http(auth={"type": "headers", "headers": {"a b": "c"}}), "name of a header"),
        (http(auth={"type": "headers", "headers": {"a": "c\r\nd: e"}}), "HTTP cannot send"),
        (http(auth={"type": "headers", "headers": {"a": "env:BAD"}}), "HTTP cannot send"),
        ({"slug": "a", "transport": "stdio", "command": []}, "command"),
    ],
)
def test_a_wrong_server_costs_itself_alone(server: dict[str, Any], why: str) -> None:
    found = read(server, http(slug="good"))

    assert [kept.slug for kept in found.servers] == ["good"]
    (warning,) = found.warnings
    assert why in warning


def test_of_two_servers_with_one_slug_the_first_stays() -> None:
    found = read(http(), http(url="https://example.org/other"))

    assert found.servers == read(http()).servers
    assert found.warnings == ("server number 2 is not used: 'a' is taken",)


@pytest.mark.parametrize("toml", [True, False])
def test_a_file_that_cannot_be_read_is_refused_without_its_text(toml: bool) -> None:
    with pytest.raises(BadConfiguration, match="not valid") as refused:
        parse(b'servers = "k-secret', toml=toml, environment={})

    assert "secret" not in str(refused.value)


def test_allowed_and_denied_names_are_patterns() -> None:
    (server,) = read(http(allow=["get_*", "Put"], deny=["get_secret*"])).servers

    offered = [name for name in ("get_x", "get_secrets", "Put", "put") if server.offers(name)]
    assert offered == ["get_x", "Put"]
