"""`/api/v1/openapi.json`, and a page that shows it without loading anything else."""

from __future__ import annotations

import asyncio
from html import escape
from typing import Any, Final

import msgspec
from litestar import Response, get
from litestar.datastructures import State

from steersman_gateway.openapi import build_document
from steersman_gateway.pages import page

_BODY: Final = """<h1>Steersman API</h1>
<p id="about" class="dim">Version {version} · <a href="/">start page</a> ·
<a href="/api/v1/openapi.json">openapi.json</a></p>
<div id="api"><noscript>This page needs JavaScript; openapi.json does not.</noscript></div>"""

# Everything is set as text, never as HTML.
_SCRIPT: Final = """
const make = (tag, text, ...children) => {
  const element = document.createElement(tag);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
const resolve = (api, item) => item && item.$ref
  ? item.$ref.slice(2).split("/").reduce((at, key) => at[key], api) : item;
const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf || schema.oneOf;
  if (options) return options.map(nameOf).join(" | ");
  if (schema.type === "array") return "list of " + (nameOf(schema.items) || "anything");
  return [schema.type].flat().join(" | ") + (schema.format ? " (" + schema.format + ")" : "");
};
const link = (schema) => {
  const name = nameOf(schema);
  const target = schema && schema.$ref ? name
    : schema && schema.items && schema.items.$ref ? nameOf(schema.items) : "";
  if (!target) return make("code", name);
  const anchor = make("a", "", make("code", name));
  anchor.href = "#" + target;
  return anchor;
};
const table = (rows) => make("table", "", ...rows.map(
  (cells) => make("tr", "", ...cells.map((cell) => make("td", "", cell)))));
const content = (body) => Object.entries((body && body.content) || {});
const operation = (api, path, method, spec) => {
  const badge = make("span", method.toUpperCase());
  badge.className = "method";
  const summary = make("summary", "", badge, make("code", path), " — " + (spec.summary || ""));
  const box = make("details", "", summary, make("p", spec.description || ""));
  if (spec.security && !spec.security.length) box.append(make("p", "Needs no token."));
  if ((spec.parameters || []).length) {
    box.append(make("h3", "Parameters"), table(spec.parameters.map((p) => [
      make("code", p.name), p.in + (p.required ? ", required" : ""), link(p.schema),
      p.description || ""])));
  }
  for (const [type, media] of content(spec.requestBody)) {
    box.append(make("h3", "Body"), make("p", "", type + ": ", link(media.schema)));
  }
  box.append(make("h3", "Replies"));
  box.append(table(Object.entries(spec.responses).map(([status, given]) => {
    const reply = resolve(api, given);
    const kinds = content(reply).flatMap(([, media]) => [link(media.schema), " "]);
    return [make("code", status), make("span", "", ...kinds), reply.description || ""];
  })));
  for (const [, media] of content(spec.responses["200"])) {
    if (media["x-events"]) {
      box.append(make("h3", "Events"), table(Object.entries(media["x-events"]).map(
        ([name, schema]) => [make("code", name), link(schema)])));
    }
  }
  return box;
};
const type = (name, schema) => {
  const box = make("details", "", make("summary", "", make("code", name)));
  box.id = name;
  if (schema.description) box.append(make("p", schema.description));
  const required = schema.required || [];
  const rows = Object.entries(schema.properties || {}).map(([field, kind]) => [
    make("code", field), required.includes(field) ? "required" : "", link(kind),
    kind.description || ""]);
  box.append(rows.length ? table(rows) : make("p", nameOf(schema)));
  return box;
};
const open = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
};
(async () => {
  const root = document.getElementById("api");
  try {
    const reply = await fetch("/api/v1/openapi.json");
    if (!reply.ok) throw new Error("openapi.json: " + reply.status);
    const api = await reply.json();
    const about = api.info.description.split("\\n\\n").map((text) => make("p", text));
    const groups = new Map();
    for (const [path, item] of Object.entries(api.paths)) {
      for (const [method, spec] of Object.entries(item)) {
        const group = (spec.tags || ["Other"])[0];
        if (!groups.has(group)) groups.set(group, []);
        groups.get(group).push(operation(api, path, method, spec));
      }
    }
    root.replaceChildren(...about);
    for (const [name, boxes] of groups) root.append(make("h2", name), ...boxes);
    const types = Object.entries(api.components.schemas).sort();
    root.append(make("h2", "Types"), ...types.map(([name, schema]) => type(name, schema)));
    addEventListener("hashchange", open);
    open();
  } catch (error) {
    root.replaceChildren(make("p", "The document could not be shown: " + error.message));
  }
})();
"""


class DocumentCache:
    """The document as bytes; made at the first request, in a thread."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._making: asyncio.Task[bytes] | None = None

    async def get(self) -> bytes:
        """The document."""
        if self._making is None:
            self._making = asyncio.create_task(asyncio.to_thread(self._make), name="openapi")
        return await asyncio.shield(self._making)

    def _make(self) -> bytes:
        return msgspec.json.encode(build_document(self._version))


@get("/api/v1/openapi.json", include_in_schema=False)
async def document(state: State) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(await state.service.document.get(), media_type="application/json")


@get("/api/v1/docs", include_in_schema=False, sync_to_thread=False)
def docs(state: State) -> Response[str]:
    """The page."""
    body = _BODY.format(version=escape(state.runtime.version))
    return page("Steersman API", body, script=_SCRIPT)


HANDLERS: Final[tuple[Any, ...]] = (document, docs)
