"""What both OpenAI formats share: authentication, errors and response headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fakes.faults import HttpError
from fakes.wire import HttpRequest, JsonValue, Problem, Refused, bearer, encode, is_known_key

_ERRORS: Final[Mapping[int, tuple[str, str | None]]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    409: ("invalid_request_error", None),
    413: ("invalid_request_error", None),
    422: ("invalid_request_error", None),
    429: ("requests", "rate_limit_exceeded"),
}


def authorise(request: HttpRequest) -> None:
    key = bearer(request.headers)
    if key is None:
        raise Refused(
            "You didn't provide an API key. You need to provide your API key in an Authorization "
            "header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
            status=401,
        )
    if not is_known_key(key):
        raise Refused("Incorrect API key provided.", status=401, code="invalid_api_key")


def describe(found: Problem, raw: bytes = b"") -> Refused:
    """The words of the real API for a field that is wrong."""
    where = found.indexed()
    if found.what == "unknown":
        return Refused(f"Unknown parameter: '{where}'.", field=where, code="unknown_parameter")
    if found.what == "missing":
        return Refused(
            f"Missing required parameter: '{where}'.",
            field=where,
            code="missing_required_parameter",
        )
    if found.what == "value":
        return Refused(f"Invalid value: '{found.name}'.", field=where, code="invalid_value")
    return Refused(f"Invalid type for '{where}': {found.text}.", field=where, code="invalid_type")


def openai_refusal(refused: Refused) -> bytes:
    kind, code = "invalid_request_error", refused.code
    message = refused.message
    if refused.status == 404 and refused.field == "model":
        message = f"The {refused.message.replace('model: ', 'model ')} does not exist."
        code = "model_not_found"
    field = None if refused.status == 401 else refused.field
    return encode({"error": {"message": message, "type": kind, "param": field, "code": code}})


def error_object(error: HttpError) -> dict[str, object]:
    kind, code = _ERRORS.get(error.status, ("server_error", "server_error"))
    if error.error_type == "insufficient_quota":
        kind = error.error_type
    return {
        "message": error.message or f"fake fault: HTTP {error.status}",
        "type": kind,
        "param": None,
        "code": error.error_type or code,
    }


_TIERS: Final = frozenset(("auto", "default", "flex", "scale", "priority", "fast"))
_LONGEST_ID: Final = 64


def check_options(body: object) -> None:
    """The parameters of both formats that say how a model is called, and not what it is asked."""
    metadata: Mapping[str, str] = getattr(body, "metadata", None) or {}
    if len(metadata) > 16:
        raise Refused(
            f"Invalid 'metadata': too many properties. Expected an object with at most 16 "
            f"properties, but got an object with {len(metadata)} properties instead.",
            field="metadata",
            code="object_above_max_properties",
        )
    for key, value in metadata.items():
        if len(key) > 64 or len(value) > 512:
            raise Refused(
                f"Invalid 'metadata': the pair of {key[:64]!r} is too long.",
                field="metadata",
                code="string_above_max_length",
            )
    for name in ("prompt_cache_key", "safety_identifier"):
        if len(getattr(body, name, None) or "") > _LONGEST_ID:
            raise Refused(
                f"Invalid '{name}': string too long. Expected a string with maximum length "
                f"{_LONGEST_ID}.",
                field=name,
                code="string_above_max_length",
            )
    tier = getattr(body, "service_tier", None)
    tiers = _TIERS | {"ultrafast"} if hasattr(body, "input") else _TIERS
    if tier not in (None, *tiers):
        raise Refused(
            f"Invalid value: '{tier}'. Supported values are: {sorted(tiers)}.",
            field="service_tier",
            code="invalid_value",
        )
    wanted = getattr(body, "top_logprobs", None)
    if wanted is not None and not 0 <= wanted <= 20:
        raise Refused(
            f"Invalid 'top_logprobs': expected a value from 0 to 20, but got {wanted} instead.",
            field="top_logprobs",
            code="integer_out_of_range",
        )


def strictness_error(schema: JsonValue) -> str | None:
    """What `strict` asks of the top level: every property required, and no others."""
    found = schema if isinstance(schema, dict) else {}
    properties = found.get("properties", {})
    required = found.get("required", [])
    if found.get("additionalProperties") is not False:
        return "'additionalProperties' is required to be supplied and to be false"
    named = properties if isinstance(properties, dict) else {}
    listed = required if isinstance(required, list) else []
    for name in named:
        if name not in listed:
            return f"'required' must include every key in properties. Missing {name!r}"
    return None


def response_headers(request_id: str) -> Mapping[str, str]:
    return {
        "x-request-id": request_id,
        "openai-version": "2020-10-01",
        "openai-organization": "fake-organization",
        "openai-processing-ms": "1",
    }
