"""What an admin may set for providers and models, without a database."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steersman_contracts.errors import InvalidRequest
from steersman_store.models import availability, checked, merge_patch
from steersman_store.providers import check_base_url, check_headers, merge_headers

values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers(0, 3) | st.text(max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = cast("dict[str, Any]", value)
    return {key: without_nulls(below) for key, below in items.items() if below is not None}


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1}, {"a": None}, {}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}),
        ({"a": [1]}, {"a": {"b": {"c": None}}}, {"a": {"b": {}}}),
        ({"a": {"b": 1}}, {"a": [1, None]}, {"a": [1, None]}),
    ],
)
def test_a_merge_patch_is_that_of_the_rfc(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@given(objects, objects)
def test_a_merge_patch_is_the_same_twice_and_changes_nothing_else(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)

    assert merge_patch(once, patch) == once
    assert merge_patch(target, {}) == target
    assert merge_patch({}, patch) == without_nulls(patch)
    assert {key: once[key] for key in once.keys() - patch.keys()} == {
        key: target[key] for key in target.keys() - patch.keys()
    }


@pytest.mark.parametrize(
    "url", [None, "http://localhost", "https://a.example:8443/v1/", "http://[::1]:8080/v1"]
)
def test_an_address_of_a_server_is_taken(url: str | None) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "ftp://a",
        "http://",
        "http://:80",
        "http://u@h",
        "http://u:p@h",
        "http://h?q",
        "http://h#f",
        "http://h:0",
        "http://h:x",
        "http://h\\@evil",
        "http://h\n",
        "http://" + "h" * 600,
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_base_url(url)
    assert refused.value.details == {"field": "base_url"}


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
def test_headers_that_are_taken_cannot_break_out_of_a_request(headers: dict[str, str]) -> None:
    try:
        check_headers(headers)
    except InvalidRequest:
        return
    for name, value in headers.items():
        assert name.isascii()
        assert value.isascii()
        assert not set(name + value) & set("\r\n\0")
        assert not set(name) & set(": ")
        assert name.lower() not in ("host", "content-length", "transfer-encoding")


def test_headers_are_merged_whatever_their_case() -> None:
    stored = {"X-A": "1", "X-B": "2"}

    assert merge_headers(stored, {"x-a": None}) == {"X-B": "2"}
    assert merge_headers(stored, {"x-b": "3", "X-C": "4"}) == {"X-A": "1", "x-b": "3", "X-C": "4"}


def test_a_backslash_before_the_word_of_a_nul_is_no_nul() -> None:
    options = {"user": "\\u0000"}
    assert checked("openai-chat", {"options": options}, "p/m").options == options
    for text in ("a\0", "\\\0"):
        with pytest.raises(InvalidRequest, match="NUL"):
            checked("openai-chat", {"options": {"user": text}}, "p/m")


def test_availability_says_who_is_to_blame() -> None:
    assert availability(None, enabled=True, provider="P") == ("available", "")
    assert availability("missing_key", enabled=True, provider="P")[0] == "missing_api_key"
    assert availability("provider_disabled", enabled=True, provider="P")[1] == "P is disabled"
    assert availability("provider_disabled", enabled=False, provider="P") == (
        "disabled",
        "the model is disabled",
    )
