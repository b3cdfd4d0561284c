"""The document describes every route, refers to nothing that is not there, and is valid."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from litestar.routes import HTTPRoute
from openapi_spec_validator import validate

from steersman_contracts.events import EVENTS
from steersman_contracts.feed import FEED_EVENTS
from steersman_gateway.app import create_app
from steersman_gateway.openapi import Document, build_document
from steersman_gateway.problems import STATUS
from steersman_gateway.settings import Settings
from steersman_runtime.service import Runtime
from steersman_runtime.settings import Secret


@pytest.fixture(scope="module")
def document() -> Document:
    return msgspec.json.decode(msgspec.json.encode(build_document("1.2.3")))


def operations(document: Document) -> list[tuple[str, str, Any]]:
    return [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]


def test_it_is_valid_openapi(document: Document) -> None:
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == "1.2.3"
    validate(document)


async def test_every_route_of_the_api_is_in_it(document: Document) -> None:
    settings = Settings(nats_url=Secret("nats://localhost"))
    app = create_app(Runtime("gateway", settings), settings)
    routes = {
        (route.path_format, method.lower())
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/v1/")
        for method in route.methods
        if method != "OPTIONS"
    }
    desktop = "/api/v1/chats/{chat_id}/desktop"
    hidden = {  # pages
        ("/api/v1/openapi.json", "get"),
        ("/api/v1/docs", "get"),
        (f"{desktop}/viewer", "get"),
        (f"{desktop}/recordings/{{recording_id}}/player", "get"),
    }

    assert {(path, method) for path, method, _ in operations(document)} == routes - hidden


def test_every_reference_leads_somewhere(document: Document) -> None:
    found = set(re.findall(rb'"\$ref":"#/([^"]+)"', msgspec.json.encode(document)))

    assert len(found) > 50
    for reference in found:
        target: Any = document
        for key in reference.decode().split("/"):
            target = target[key]


def test_every_operation_says_who_may_call_it_and_how_it_refuses(document: Document) -> None:
    ids: set[str] = set()
    for path, method, operation in operations(document):
        assert operation["operationId"] not in ids
        ids.add(operation["operationId"])
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        responses = operation["responses"]
        assert any(status.startswith("2") for status in responses)
        public = operation.get("security") == []
        assert public == (path == "/api/v1/version")
        assert ("401" in responses) != public
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= set(responses), (method, path)
        if "{chat_id}" in path:
            assert "404" in responses
        for status, response in responses.items():
            if status >= "400":
                assert response == {"$ref": f"#/components/responses/Problem{status}"}
    assert document["security"] == [{"token": []}, {"cookie": []}]


def test_every_code_is_listed_with_its_status(document: Document) -> None:
    for code, status in STATUS.items():
        assert f"`{code}`" in document["components"]["responses"][f"Problem{status}"]["description"]


def test_every_event_has_its_type(document: Document) -> None:
    reply = document["paths"]["/api/v1/chats/{chat_id}/events"]["get"]["responses"]["200"]

    assert set(reply["content"]["text/event-stream"]["x-events"]) == set(EVENTS)


def test_every_event_of_the_feed_has_its_type(document: Document) -> None:
    reply = document["paths"]["/api/v1/events"]["get"]["responses"]["200"]
    described = reply["content"]["text/event-stream"]["x-events"]

    assert set(described) == set(FEED_EVENTS)
    assert described["stream.sync"]["$ref"].endswith("/FeedSync")


def test_what_is_never_sent_is_not_described(document: Document) -> None:
    assert b"provider_metadata" not in msgspec.json.encode(document)
    assert "ProviderMetadata" not in document["components"]["schemas"]
