from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from steersman_runtime.settings import BadSettings, Secret, ServiceSettings, load_settings

URL = {"STEERSMAN_NATS_URL": "nats://u:hunter2@host:4222"}


class Settings(ServiceSettings, frozen=True, kw_only=True):
    name: str = "unnamed"
    count: Annotated[int, msgspec.Meta(ge=1, le=9)] = 1
    ratio: float = 0.5
    on: bool = False
    mode: Literal["slow", "fast"] = "slow"
    limit: int | None = None
    key: Secret | None = None


def load(env: Mapping[str, str]) -> Settings:
    return load_settings(Settings, "demo", {**URL, **env})


@pytest.mark.parametrize(
    ("variable", "text", "field", "value"),
    [
        ("STEERSMAN_NAME", "plain", "name", "plain"),
        ("STEERSMAN_DEMO_NAME", "own", "name", "own"),
        ("STEERSMAN_NAME", "007", "name", "007"),
        ("STEERSMAN_NAME", "", "name", ""),
        ("STEERSMAN_COUNT", "9", "count", 9),
        ("STEERSMAN_RATIO", "2", "ratio", 2.0),
        ("STEERSMAN_ON", "true", "on", True),
        ("STEERSMAN_ON", "0", "on", False),
        ("STEERSMAN_MODE", "fast", "mode", "fast"),
        ("STEERSMAN_LIMIT", "5", "limit", 5),
        ("STEERSMAN_LIMIT", "null", "limit", None),
        ("STEERSMAN_KEY", "k", "key", "k"),
    ],
)
def test_a_variable_is_read_as_its_fields_type(
    variable: str, text: str, field: str, value: object
) -> None:
    loaded = getattr(load({variable: text}), field)

    assert loaded == value


def test_what_is_not_set_has_its_default() -> None:
    assert load({}) == Settings(nats_url=Secret(URL["STEERSMAN_NATS_URL"]))


NAME_SOURCES = {
    "STEERSMAN_DEMO_NAME": "own variable",
    "STEERSMAN_DEMO_NAME_FILE": "own file",
    "STEERSMAN_NAME": "shared variable",
    "STEERSMAN_NAME_FILE": "shared file",
    "[demo]": "own table",
    "[shared]": "shared table",
}


@pytest.mark.parametrize("gone", range(len(NAME_SOURCES)))
def test_the_more_special_source_wins(gone: int, tmp_path: Path) -> None:
    present = list(NAME_SOURCES.items())[gone:]
    env: dict[str, str] = {"STEERSMAN_CONFIG": str(tmp_path / "config.toml")}
    toml = ""
    for source, value in present:
        if source.startswith("["):
            toml += f'{source}\nname = "{value}"\n'
        elif source.endswith("_FILE"):
            file = tmp_path / source
            file.write_text(f"{value}\n")
            env[source] = str(file)
        else:
            env[source] = value
    (tmp_path / "config.toml").write_text(toml)

    assert load(env).name == present[0][1]


@pytest.mark.parametrize("toml", ["", "[other]\nname = 'x'\n", "[demo]\nunknown = 1\n"])
def test_tables_of_others_do_not_matter(toml: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(toml)

    assert load({"STEERSMAN_CONFIG": str(tmp_path / "config.toml")}).name == "unnamed"


def test_toml_values_have_types(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[demo]\ncount = 3\non = true\nkey = 'k'\n")

    loaded = load({"STEERSMAN_CONFIG": str(tmp_path / "config.toml")})

    assert (loaded.count, loaded.on, loaded.key) == (3, True, "k")


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"STEERSMAN_COUNT": "ten"}, "STEERSMAN_COUNT: Expected `int`"),
        ({"STEERSMAN_COUNT": "10"}, "STEERSMAN_COUNT: Expected `int` <= 9"),
        ({"STEERSMAN_ON": "maybe"}, "STEERSMAN_ON: "),
        ({"STEERSMAN_MODE": "medium"}, "STEERSMAN_MODE: Invalid enum value 'medium'"),
        ({"STEERSMAN_INSTANCE": "a b"}, "STEERSMAN_INSTANCE: "),
        ({"STEERSMAN_NAME_FILE": "/no/file"}, "STEERSMAN_NAME_FILE: cannot read '/no/file'"),
        ({"STEERSMAN_CONFIG": "/no/file"}, "STEERSMAN_CONFIG: cannot read '/no/file'"),
    ],
)
def test_a_bad_value_names_the_variable(env: dict[str, str], says: str) -> None:
    with pytest.raises(BadSettings) as refused:
        load(env)

    assert str(refused.value).startswith(says)


@pytest.mark.parametrize(
    "toml",
    [
        "name = ",
        "[demo]\nnats_url = 5\n[shared]\n",
        "demo = 5\n",
        "[demo]\ncount = 'ten'\n",
    ],
)
def test_a_bad_file_is_bad_settings(toml: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(toml)

    with pytest.raises(BadSettings):
        load_settings(Settings, "demo", {"STEERSMAN_CONFIG": str(tmp_path / "config.toml")})


def test_a_file_that_is_no_text_is_bad_settings(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe")

    with pytest.raises(BadSettings) as refused:
        load({"STEERSMAN_NAME_FILE": str(tmp_path / "secret")})

    assert str(refused.value).startswith("STEERSMAN_NAME_FILE: ")


def test_a_missing_setting_names_its_variable() -> None:
    with pytest.raises(BadSettings) as refused:
        load_settings(Settings, "demo", {})

    assert str(refused.value) == "STEERSMAN_NATS_URL is not set"
    assert refused.value.details == {"field": "nats_url"}


def test_secrets_do_not_show_themselves() -> None:
    loaded = load({"STEERSMAN_KEY": "hunter3"})
    shown: list[Any] = [repr(loaded), f"{loaded!r}", repr([loaded.key]), str(loaded)]

    assert not any("hunter" in text for text in shown)
    assert loaded.nats_url.reveal() == URL["STEERSMAN_NATS_URL"]
    assert isinstance(loaded.key, Secret)
    assert type(loaded.nats_url.reveal()) is str


def test_a_refused_secret_does_not_show_itself() -> None:
    with pytest.raises(BadSettings) as refused:
        load({"STEERSMAN_COUNT": "hunter2"})

    assert "hunter2" not in str(refused.value)
