"""What an exception says about a failed model call, in one shape for every SDK.

Read by attribute and class name, never by importing an SDK: this module is loaded in every process,
and each SDK costs seconds and tens of megabytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, cast

import msgspec


class StreamFault(Exception):
    """What a stream reports, or fails to say, while the connection itself is fine.

    `code` is the provider's own word, or one of ours: `truncated`, `stalled`, `empty_answer`,
    `output_limit`, `malformed_call`, `content_filter`.
    """

    def __init__(self, code: str, message: str = "", *, status: int | None = None) -> None:
        super().__init__(message or code)
        self.code = code
        self.status_code = status
        self.message = message


class ReportedFault(Exception):
    """An error that a provider reports: by an HTTP status, or as an event of a stream.

    Named as the SDKs name what they raise, so that it is read like those.
    """

    def __init__(self, body: Any, *, status: int | None = None, response: Any = None) -> None:
        super().__init__("the provider reported an error")
        self.body = body
        self.status_code = status
        self.response = response


class Signal(msgspec.Struct, frozen=True):
    """The facts that the rules of the classifier look at."""

    status: int | None = None
    codes: frozenset[str] = frozenset()
    """Error types and codes in lower case, the provider's and ours."""
    names: frozenset[str] = frozenset()
    """Class names of the exception, its bases and what caused it."""
    text: str = ""
    """What it says, for people; only a fallback for rules."""
    retry_after_s: float | None = None
    should_retry: bool | None = None
    """What the provider says itself in `x-should-retry`."""


LONGEST_WAIT_S: Final = 86_400.0
"""Nobody is waited for longer than a day, whatever a server says: quotas of a day are the longest
that there are."""
_NUMBER: Final = re.compile(r"\d{3}")
_DELAY: Final = re.compile(r"(\d+(?:\.\d+)?)s")


def signal_of(error: BaseException, *, now: datetime | None = None) -> Signal:
    """Read an exception. `now` is the time that a date in `Retry-After` counts from."""
    response: Any = getattr(error, "response", None)
    headers = _mapping(getattr(response, "headers", None))
    body = _body(error)
    details = tuple(_objects(body))
    codes = frozenset(_codes(error, details))
    status = _status(error, codes)
    return Signal(
        status=status,
        codes=codes,
        names=frozenset(_names(error)),
        text=_text(error, details),
        retry_after_s=_bounded(_retry_after(headers, details, now or datetime.now(UTC))),
        should_retry={"true": True, "false": False}.get(str(headers.get("x-should-retry", ""))),
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}


def _body(error: BaseException) -> Any:
    """The error body: openai unwraps `error`, google-genai calls it `details`."""
    body: Any = getattr(error, "body", None)
    return body if body is not None else getattr(error, "details", None)


def _objects(body: Any) -> Iterator[Mapping[str, Any]]:
    """The error object, what contains it and the objects in its `details`."""
    if isinstance(body, list):
        for item in cast("list[Any]", body)[:1]:
            yield from _objects(item)
        return
    outer = _mapping(body)
    inner = _mapping(outer.get("error"))
    error = inner or outer
    yield error
    if inner:
        yield outer
    details: Any = error.get("details")
    for item in cast("list[Any]", details) if isinstance(details, list) else [details]:
        yield _mapping(item)
    # OpenRouter and Azure put what the model's own host said one level deeper.
    for key in ("metadata", "innererror"):
        yield _mapping(error.get(key))


def _codes(error: BaseException, details: tuple[Mapping[str, Any], ...]) -> Iterator[str]:
    for attribute in ("code", "type", "status", "error_code"):
        yield from _word(getattr(error, attribute, None))
    for item in details:
        for key in ("code", "type", "status", "reason", "error_code", "error_type"):
            yield from _word(item.get(key))
        violations: Any = item.get("violations")
        for violation in cast("list[Any]", violations) if isinstance(violations, list) else []:
            quota = str(_mapping(violation).get("quotaId", ""))
            if "PerDay" in quota:
                yield "quota_per_day"
            if str(_mapping(violation).get("quotaValue", "")) == "0":
                yield "quota_zero"


def _word(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value not in ("", "error"):  # the type of every Anthropic error
        yield value.lower()
    elif isinstance(value, int) and not isinstance(value, bool):
        yield str(value)


def _status(error: BaseException, codes: frozenset[str]) -> int | None:
    status: Any = getattr(error, "status_code", None)
    if isinstance(status, int) and status != 200:
        return status
    # Errors inside a stream have status 200 or none; some hosts put an HTTP status into `code`.
    numbers = sorted(int(code) for code in codes if _NUMBER.fullmatch(code))
    return next((number for number in numbers if 400 <= number < 600), None)


def _names(error: BaseException) -> Iterator[str]:
    seen: BaseException | None = error
    for _ in range(4):
        if seen is None:
            return
        yield from (base.__name__ for base in type(seen).__mro__)
        seen = seen.__cause__ or seen.__context__


def _text(error: BaseException, details: tuple[Mapping[str, Any], ...]) -> str:
    said = [str(item["message"]) for item in details if isinstance(item.get("message"), str)]
    raw = [str(item["raw"]) for item in details if isinstance(item.get("raw"), str)]
    if not said:
        message: Any = getattr(error, "message", None)
        said = [message if isinstance(message, str) and message else str(error)]
        cause = error.__cause__
        if cause is not None and str(cause) and str(cause) != said[0]:
            said.append(str(cause))
    return " ".join(dict.fromkeys(said + raw))


def _retry_after(
    headers: Mapping[str, Any], details: tuple[Mapping[str, Any], ...], now: datetime
) -> float | None:
    if (milliseconds := _float(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    after = headers.get("retry-after")
    if (seconds := _float(after)) is not None:
        return seconds
    if isinstance(after, str) and (when := _date(after)) is not None:
        return max(0.0, (when - now).total_seconds())
    for item in details:
        delay = item.get("retryDelay")
        if isinstance(delay, str) and (match := _DELAY.fullmatch(delay)):
            return float(match[1])
    return None


def _bounded(wait_s: float | None) -> float | None:
    return None if wait_s is None else min(wait_s, LONGEST_WAIT_S)


def _float(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if 0 <= number < float("inf") else None


def _date(value: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
