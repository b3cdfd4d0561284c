from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from steersman_contracts.errors import InvalidRequest, Unavailable
from steersman_contracts.ids import ChatId
from steersman_tools.workspaces import Workspaces

CHAT = ChatId("0190a0a0-0000-7000-8000-000000000001")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_workspace_is_made_on_first_use_for_its_owner_alone(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "a" / "b")

    path = workspaces.path(CHAT)

    assert path == tmp_path / "a" / "b" / CHAT
    assert mode(path) == 0o700
    (path / "kept").touch()
    assert list(workspaces.path(CHAT).iterdir()) == [path / "kept"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("uid", [None, 12345])
def test_as_root_it_belongs_to_an_unprivileged_user(uid: int | None, tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w", uid=uid)

    for path in (workspaces.path(CHAT), workspaces.path(CHAT)):
        owner = path.stat()
        assert owner.st_uid == (uid or 65534)
        assert owner.st_gid != 0
    assert mode(tmp_path / "w") == 0o711


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_workspace_that_was_made_but_not_given_away_is_given_away(tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w")
    (tmp_path / "w" / CHAT).mkdir(mode=0o700)

    assert workspaces.path(CHAT).stat().st_uid != 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root has another rule")
def test_as_anybody_else_nobody_but_us_gets_in(tmp_path: Path) -> None:
    Workspaces(tmp_path / "w")

    assert mode(tmp_path / "w") == 0o700


@pytest.mark.parametrize(
    "chat_id", ["", ".", "..", "../x", "/etc", CHAT.upper(), CHAT + "\n", CHAT + "/..", "x" * 5000]
)
def test_what_is_no_chat_id_is_no_path(chat_id: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        Workspaces(tmp_path).path(ChatId(chat_id))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_its_place_is_an_error(kind: str, tmp_path: Path) -> None:
    workspaces = Workspaces(tmp_path / "w")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        (tmp_path / "w" / CHAT).touch()
    else:
        (tmp_path / "w" / CHAT).symlink_to(elsewhere)

    with pytest.raises(NotADirectoryError):
        workspaces.path(CHAT)


def test_a_directory_that_cannot_be_made_keeps_the_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Unavailable, match="workspaces directory"):
        Workspaces(tmp_path / "file" / "w")
