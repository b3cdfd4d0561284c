"""Strategies that build any struct of the contracts from what msgspec knows about it."""

from __future__ import annotations

import builtins
import functools
import importlib
import pkgutil
from datetime import UTC
from types import ModuleType
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect

import steersman_contracts

_MAX_ITEMS = 3

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: (
        st.lists(inner, max_size=_MAX_ITEMS) | st.dictionaries(text, inner, max_size=_MAX_ITEMS)
    ),
    max_leaves=5,
)


def modules() -> list[ModuleType]:
    """Every module of the contracts."""
    found = pkgutil.walk_packages(steersman_contracts.__path__, "steersman_contracts.")
    return [importlib.import_module(module.name) for module in found]


def structs_of(module: ModuleType) -> list[type[msgspec.Struct]]:
    """The public structs that a module defines."""
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    ]


# Strategies are built once: examples and the structs inside of others share them.
@functools.cache
def instances(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type."""
    return _build(inspect.type_info(kind))


def _build(info: inspect.Type) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911, RUF100  # a table
    match info:
        case inspect.Metadata(type=inner):
            return _build(inner)
        case inspect.AnyType() | inspect.CustomType(cls=builtins.object):
            return json_values
        case inspect.NoneType():
            return st.none()
        case inspect.BoolType():
            return st.booleans()
        case inspect.IntType():
            return st.integers(_or(info.ge, -(2**53)), _or(info.le, 2**53))
        case inspect.FloatType():
            low, high = _first(info.ge, info.gt), _first(info.le, info.lt)
            return st.floats(
                low,
                high,
                allow_nan=False,
                allow_infinity=False,
                exclude_min=info.gt is not None,
                exclude_max=info.lt is not None,
            )
        case inspect.StrType(pattern=str(pattern)):
            fitting = st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True)
            return fitting.filter(lambda value: _fits(value, info))
        case inspect.StrType():
            low = info.min_length or 0
            return st.text(
                st.characters(exclude_categories=["Cs"]),
                min_size=low,
                max_size=min(_or(info.max_length, low + 20), low + 20),
            )
        case inspect.BytesType():
            return st.binary(max_size=20)
        case inspect.DateTimeType():
            return st.datetimes(timezones=st.just(UTC))
        case inspect.DateType():
            return st.dates()
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.EnumType(cls=cls):
            return st.sampled_from(list(cls))
        case inspect.UnionType(types=types):
            return st.one_of(*(_build(choice) for choice in types))
        case inspect.TupleType(item_types=types):
            return st.tuples(*(_build(item) for item in types))
        case inspect.VarTupleType():
            return _many(info).map(tuple)
        case inspect.ListType():
            return _many(info)
        case inspect.DictType():
            return st.dictionaries(
                _build(info.key_type), _build(info.value_type), max_size=_MAX_ITEMS
            )
        case inspect.StructType(cls=cls):
            return _struct(cls)
        case _:
            raise NotImplementedError(info)


@functools.cache
def _struct(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    return st.deferred(lambda: _fields(cls))


def _fields(cls: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    fields = info.fields
    required = {field.name: _build(field.type) for field in fields if field.required}
    optional = {field.name: _build(field.type) for field in fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda values: cls(**values))


def _many(info: inspect.ListType | inspect.VarTupleType) -> st.SearchStrategy[list[Any]]:
    low = info.min_length or 0
    high = min(_or(info.max_length, low + _MAX_ITEMS), low + _MAX_ITEMS)
    return st.lists(_build(info.item_type), min_size=low, max_size=high)


def _fits(value: str, info: inspect.StrType) -> bool:
    return (info.min_length or 0) <= len(value) <= _or(info.max_length, 10**6)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
