"""Whatever is on the wire comes back as it was, and tolerates what it does not know yet."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from contract.contracts.structs import instances, modules, structs_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steersman_contracts import (
    chats,
    deltas,
    events,
    hooks,
    parts,
    rest,
    rest_desktop,
    rest_prompts,
    rest_workspaces,
    rpc,
)

WIRE = [
    struct
    for module in modules()
    for struct in structs_of(module)
    if module is not hooks and struct not in (events.Event, events.DurableEvent)
]
CLOSED = {struct for struct in WIRE if struct.__struct_config__.forbid_unknown_fields}

# The simplest value and two of any size: what is asked here depends on the types alone.
few = settings(
    deadline=None, max_examples=3, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_all_modules_are_covered() -> None:
    covered = {struct.__module__ for struct in WIRE}

    assert {module.__name__ for module in (chats, deltas, events, parts, rest)} <= covered
    assert sum(name.startswith(f"{rpc.__name__}.") for name in covered) >= 7
    assert len(WIRE) > 100


@pytest.mark.parametrize("struct", WIRE, ids=lambda struct: struct.__name__)
@few
@given(data=st.data())
def test_a_struct_round_trips_and_ignores_what_newer_versions_add(
    struct: type[msgspec.Struct], data: st.DataObject
) -> None:
    value = data.draw(instances(struct))

    encoded = msgspec.json.encode(value)
    decoded = msgspec.json.decode(encoded, type=struct)

    assert decoded == value
    assert msgspec.json.encode(decoded) == encoded

    newer = msgspec.json.decode(encoded) | {"of_a_newer_version": {"any": ["thing"]}}
    if struct in CLOSED:
        with pytest.raises(msgspec.ValidationError, match="of_a_newer_version"):
            msgspec.json.decode(msgspec.json.encode(newer), type=struct)
    else:
        assert msgspec.json.decode(msgspec.json.encode(newer), type=struct) == value


def test_only_what_clients_send_is_closed() -> None:
    public = (rest, rest_desktop, rest_prompts, rest_workspaces)
    assert {struct.__module__ for struct in CLOSED} == {module.__name__ for module in public}
    bodies = {
        struct
        for module in public
        for struct in structs_of(module)
        if struct.__name__.endswith(("Body", "Input"))
    }
    assert bodies == CLOSED


def test_every_struct_is_frozen_and_says_what_it_is() -> None:
    assert [struct for struct in WIRE if not struct.__struct_config__.frozen] == []
    assert [struct for struct in WIRE if "Struct" in (struct.__doc__ or "Struct")] == []


@pytest.mark.parametrize(
    ("union", "tags"),
    [
        (
            parts.Part,
            {
                "text",
                "reasoning",
                "tool-call",
                "tool-result",
                "source",
                "json",
                "file",
                "file-reference",
                "context-file",
                "skill",
            },
        ),
        (parts.ResultContent, {"text", "json", "file", "source"}),
        (deltas.Delta, {"text", "reasoning", "tool-call", "tool-arguments", "part"}),
        (rest.InputPart, {"text", "file", "file-reference"}),
    ],
)
def test_the_tags_of_a_union_are_part_of_the_contract(union: Any, tags: set[str]) -> None:
    info = msgspec.inspect.type_info(union)

    assert isinstance(info, msgspec.inspect.UnionType)
    assert {
        choice.tag for choice in info.types if isinstance(choice, msgspec.inspect.StructType)
    } == tags
    assert {
        choice.tag_field for choice in info.types if isinstance(choice, msgspec.inspect.StructType)
    } == {"type"}
