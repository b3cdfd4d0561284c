from __future__ import annotations

import json
from pathlib import Path

import pytest

from steersman.client.access import Access, NothingRuns, NoToken, find_access

HERE = "http://127.0.0.1:8700"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "endpoint.json").write_text(json.dumps({"url": HERE, "pid": 1}))
    (tmp_path / "api-token").write_text("local-token\n")
    return tmp_path


def test_the_data_directory_says_where_and_as_whom(data: Path) -> None:
    assert find_access(None, None, data, {}) == Access(HERE, "local-token")


def test_options_come_before_the_environment_and_that_before_the_directory(data: Path) -> None:
    env = {"STEERSMAN_URL": "https://a.example/api/v1/", "STEERSMAN_TOKEN": "theirs"}

    assert find_access("https://b.example", "mine", data, env) == ("https://b.example", "mine")
    assert find_access(None, None, data, env) == ("https://a.example", "theirs")
    assert find_access(None, None, data, {"STEERSMAN_TOKEN": "theirs"}) == (HERE, "theirs")


def test_the_token_of_the_directory_is_never_sent_elsewhere(data: Path) -> None:
    assert find_access(HERE + "/", None, data, {}) == Access(HERE, "local-token")
    with pytest.raises(NoToken, match=r"https://elsewhere\.example"):
        find_access("https://elsewhere.example", None, data, {})


def test_a_directory_without_an_address_means_that_nothing_runs(tmp_path: Path) -> None:
    with pytest.raises(NothingRuns, match="nothing runs with"):
        find_access(None, None, tmp_path, {})


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": 5}'])
def test_a_broken_address_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "endpoint.json").write_text(content)
    with pytest.raises(NothingRuns):
        find_access(None, None, tmp_path, {})


def test_an_address_has_a_scheme(tmp_path: Path) -> None:
    with pytest.raises(NothingRuns, match="is no address"):
        find_access("localhost:8700", "t", tmp_path, {})
