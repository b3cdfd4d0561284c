from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, TypeGuard

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steersman_contracts.tool_schema import BadSchema, input_schema, unknown_fields


class Cat(msgspec.Struct, tag="cat"):
    """A cat."""

    lives: int = 9


class Dog(msgspec.Struct, tag="dog"):
    title: str
    friends: list[Cat] = []


class Zoo(msgspec.Struct, frozen=True):
    name: Annotated[str, msgspec.Meta(description="What it is called.", max_length=9, title="N")]
    title: str = ""
    star: Cat | Dog | None = None
    all: list[Cat | Dog] = []
    by_name: dict[str, Cat] = {}
    pair: tuple[Cat, int] | None = None
    kind: Literal["big", "small"] = "big"
    opened: datetime | None = None
    anything: Any = None


class Empty(msgspec.Struct):
    pass


class Endless(msgspec.Struct):
    child: list[Endless] = []


class Deep(msgspec.Struct):
    nothing: Undefined  # type: ignore[name-defined]  # noqa: F821  # that is the test


def is_node(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def nodes_of(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    yield schema
    below: list[Any] = [*schema.get("properties", {}).values()]
    below += [*schema.get("anyOf", []), *schema.get("prefixItems", [])]
    below += [schema.get(keyword) for keyword in ("items", "additionalProperties")]
    for value in below:
        if is_node(value):
            yield from nodes_of(value)


def test_the_schema_is_one_closed_object_without_references() -> None:
    schema = input_schema(Zoo)

    nodes = list(nodes_of(schema))
    assert len(nodes) > 20
    for node in nodes:
        assert not node.keys() & {"$ref", "$defs", "title", "discriminator"}
        if "properties" in node:
            assert node["additionalProperties"] is False
            assert isinstance(node["required"], list)
    assert schema["type"] == "object"
    assert schema["required"] == ["name"]


def test_a_field_called_title_stays_and_so_do_descriptions_and_bounds() -> None:
    properties = input_schema(Zoo)["properties"]

    assert properties["title"] == {"type": "string", "default": ""}
    assert properties["name"] == {
        "type": "string",
        "description": "What it is called.",
        "maxLength": 9,
    }
    assert properties["by_name"]["additionalProperties"]["description"] == "A cat."


def test_the_choices_of_a_union_stand_side_by_side() -> None:
    choices = input_schema(Zoo)["properties"]["star"]["anyOf"]

    tags = [choice.get("properties", {}).get("type") for choice in choices]
    assert tags == [{"enum": ["cat"]}, {"enum": ["dog"]}, None]
    assert choices[2] == {"type": "null"}


def test_no_arguments_are_an_empty_closed_object() -> None:
    assert input_schema(Empty) == {
        "type": "object",
        "properties": {},
        "required": [],
        "additionalProperties": False,
    }


def wide(fields: int) -> type[msgspec.Struct]:
    return msgspec.defstruct("Wide", [(f"{'f' * 100}_{number}", int) for number in range(fields)])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (Endless, "refer to themselves"),
        (Deep, "no schema can be derived"),
        (wide(1000), "more than 65536"),
        (dict, "must be a msgspec Struct"),
        ("Zoo", "must be a msgspec Struct"),
        (Zoo("x"), "must be a msgspec Struct"),
    ],
)
def test_a_type_that_models_cannot_be_told_is_refused(arguments: Any, says: str) -> None:
    with pytest.raises(BadSchema, match=says):
        input_schema(arguments)


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        ({"name": "a", "title": "b", "kind": "big", "anything": {"goes": {"here": 1}}}, []),
        ({"nam": "a", "x.y": 1}, ["nam", "x.y"]),
        ({"star": {"type": "cat", "lives": 1}}, []),
        ({"star": {"type": "dog", "lives": 1}}, ["star.lives"]),
        (
            {"star": {"type": "dog", "friends": [{"type": "cat", "age": 1}]}},
            ["star.friends[0].age"],
        ),
        ({"star": None}, []),
        ({"all": [{"type": "cat"}, {"type": "dog", "x": 1}]}, ["all[1].x"]),
        ({"by_name": {"tom": {"type": "cat", "y": 1}, "any": {"type": "cat"}}}, ["by_name.tom.y"]),
        ({"star": 5, "all": "cats", "name": ["x"]}, []),
    ],
)
def test_fields_that_the_schema_does_not_declare_are_found(
    arguments: dict[str, Any], unknown: list[str]
) -> None:
    assert unknown_fields(input_schema(Zoo), arguments) == unknown


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None)
@given(json_values, st.sampled_from(["star", "all", "by_name", "pair", "anything", "name"]))
def test_any_json_can_be_checked(value: Any, field: str) -> None:
    found = unknown_fields(input_schema(Zoo), {field: value})

    assert all(path.startswith(field) for path in found)
