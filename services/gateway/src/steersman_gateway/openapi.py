"""The OpenAPI document: operations from Litestar's handlers, schemas from msgspec's types.

Litestar's own schemas of msgspec types lose discriminators and misread `tuple[X, ...]`; msgspec's
are exactly what it checks. Both name a type by its class, so the references fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from litestar import Litestar, Response
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Info, License
from litestar.routes import HTTPRoute

from steersman_contracts.events import CHAT_EVENTS, EVENTS
from steersman_contracts.feed import FEED_EVENTS, FeedGap, FeedSync
from steersman_contracts.parts import ProviderMetadata
from steersman_contracts.rest import Problem
from steersman_gateway import about
from steersman_gateway.api import api_router, provide_backend
from steersman_gateway.auth import COOKIE
from steersman_gateway.files import describe_download, describe_upload
from steersman_gateway.problems import MEDIA_TYPE, STATUS
from steersman_gateway.workspaces import describe_workspace_download

Document = dict[str, Any]

_SCHEMAS: Final = "#/components/schemas/{name}"
_DESCRIPTION: Final = """A backend for AI agent chats that people can steer.

Every request carries a token as `Authorization: Bearer <token>`. Errors are problem documents
(RFC 9457) with a stable `code`; where one field is to blame, `field` names it. What runs is
watched as server-sent events, and can be resumed from any event without a gap."""
_PUBLIC: Final = frozenset({"/api/v1/version"})
_DONE: Final = {"200": "Done.", "201": "Created.", "202": "Accepted.", "204": "Done; no content."}


def build_document(version: str) -> Document:
    """Describe the whole API. Takes about 0.2 s: call it once, and not on the event loop."""
    app = Litestar(
        [about.version, api_router()],
        dependencies={"backend": Provide(provide_backend, sync_to_thread=False)},
        openapi_config=OpenAPIConfig(
            title="Steersman", version=version, use_handler_docstrings=True
        ),
        logging_config=None,
    )
    document: Document = app.openapi_schema.to_schema()
    document["info"] = Info(
        title="Steersman",
        version=version,
        description=_DESCRIPTION,
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
    ).to_schema()
    document["security"] = [{"token": []}, {"cookie": []}]
    document["components"] = {
        "schemas": _schemas(_types(app)),
        "securitySchemes": {
            "token": {"type": "http", "scheme": "bearer"},
            "cookie": {
                "type": "apiKey",
                "in": "cookie",
                "name": COOKIE,
                "description": "What a sign-in link leaves in a browser.",
            },
        },
        "responses": _problems(),
    }
    content = document["paths"]["/api/v1/workspaces/{workspace_id}/files/content"]
    describe_upload(document["paths"]["/api/v1/files"]["post"])
    describe_upload(content["put"])
    on_desktop = document["paths"]["/api/v1/chats/{chat_id}/desktop/files/content"]
    describe_upload(on_desktop["put"])
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(operation, path, method)
    _describe_stream(document["paths"]["/api/v1/chats/{chat_id}/events"]["get"], EVENTS)
    _describe_stream(document["paths"]["/api/v1/events"]["get"], FEED_EVENTS)
    describe_download(document["paths"]["/api/v1/files/{file_id}"]["get"])
    describe_workspace_download(content["get"])
    describe_workspace_download(on_desktop["get"])
    return document


def _types(app: Litestar) -> list[Any]:
    """Everything that a handler takes or returns, the events, and the problem."""
    found: list[Any] = [Problem, *CHAT_EVENTS, FeedSync, FeedGap]
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        for handler in route.route_handlers:
            if handler.resolve_include_in_schema() is False:
                continue
            returned = handler.parsed_return_field
            if returned.is_subclass_of(Response):
                returned = returned.inner_types[0]
            body = handler.parsed_data_field
            kinds = [returned.annotation, None if body is None else body.annotation]
            found += [k for k in kinds if isinstance(k, type) and issubclass(k, msgspec.Struct)]
    return found


def _schemas(kinds: Iterable[Any]) -> Document:
    _, schemas = msgspec.json.schema_components(kinds, schema_hook=_any_json, ref_template=_SCHEMAS)
    # Never leaves the system: see `presentable`.
    schemas.pop(ProviderMetadata.__name__)
    for schema in schemas.values():
        schema.get("properties", {}).pop("provider_metadata", None)
    return schemas


def _any_json(kind: type) -> Document:
    if kind is object:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)


def _problems() -> Document:
    """One reusable response per status, with the codes that it may carry."""
    codes: defaultdict[int, list[str]] = defaultdict(list)
    for code, status in STATUS.items():
        codes[status].append(f"`{code}`")
    schema = {"$ref": _SCHEMAS.format(name=Problem.__name__)}
    return {
        f"Problem{status}": {
            "description": f"Refused: {', '.join(names)}.",
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status, names in sorted(codes.items())
    }


def _complete(operation: Document, path: str, method: str) -> None:
    statuses = {500, 503, 504}
    if path in _PUBLIC:
        operation["security"] = []
    else:
        statuses |= {401, 429}
    if operation.get("parameters") or "requestBody" in operation:
        statuses.add(400)
    if "requestBody" in operation:
        statuses |= {413, 415}
    if "{" in path:
        statuses.add(404)
    if method != "get":
        statuses |= {403, 409}
    if "/desktop" in path:
        statuses.add(501)
    responses: Document = {
        status: response | {"description": _DONE[status]}
        for status, response in operation["responses"].items()
        if status in _DONE
    }
    if "201" in responses:
        location = {"schema": {"type": "string"}, "description": "The address of the new thing."}
        responses["201"]["headers"] = {"Location": location}
    for status in sorted(statuses):
        responses[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    operation["responses"] = responses
    operation["parameters"] = [_tidy(parameter) for parameter in operation.get("parameters", [])]
    operation.pop("deprecated", None)


def _tidy(parameter: Document) -> Document:
    schema: Document = parameter["schema"]
    # "May be absent" is `required: false`; nobody can send a null in a query.
    options: list[Document] = schema.pop("oneOf", [])
    for option in options:
        if option != {"type": "null"}:
            schema |= option
    schema.pop("description", None)
    kept = ("name", "in", "description", "required", "schema")
    return {key: parameter[key] for key in kept if key in parameter}


def _describe_stream(operation: Document, events: Mapping[str, type]) -> None:
    operation["responses"]["200"] = {
        "description": "Each message has `event`, `data` (JSON of the type that belongs to the "
        "event's name) and, but for `stream.gap`, `id`: a cursor. One with an `id` alone tells "
        "how far the stream is when nothing of it was asked for.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "x-events": {
                    name: {"$ref": _SCHEMAS.format(name=event.__name__)}
                    for name, event in events.items()
                },
            }
        },
    }
