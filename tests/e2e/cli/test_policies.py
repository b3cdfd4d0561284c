"""Rules about tool calls at the command line: written, tried, decided by, and taken back."""

from __future__ import annotations

import json
from pathlib import Path

from e2e.cli.conftest import StartChat, until
from e2e.cli.terminal import run

from steersman.client import Client
from steersman_contracts.chats import Status


async def test_rules_are_written_shown_and_decide_and_what_was_allowed_is_taken_back(
    env: dict[str, str], client: Client, start_chat: StartChat, tmp_path: Path
) -> None:
    chat_id = await start_chat("demo/tour")
    of_chat = ("--chat", chat_id)
    rules = [{"decision": "ask", "tool": "write_file", "reason": "it writes"}]
    file = tmp_path / "rules.json"
    file.write_text(json.dumps({"rules": rules, "version": 0}))

    written = await run(env, "policy", "set", str(file), *of_chat)
    assert written == (0, "1 rules are in force, version 1\n", "")
    late = await run(env, "policy", "set", str(file), *of_chat)
    assert (late.code, late.out) == (1, "")
    assert "the rules have changed since they were read" in late.err
    shown = await run(env, "policy", "show", *of_chat)
    assert shown.out.splitlines()[1].split(maxsplit=3) == [
        "ask",
        "write_file",
        "always",
        "it writes",
    ]
    kept = await run(env, "policy", "show", "--json", *of_chat)
    assert (await run(env, "policy", "set", "-", *of_chat, source=kept.out)).code == 0

    file.write_text('{"rules": [{"decision": "maybe"}]}')
    wrong = await run(env, "policy", "set", str(file))
    assert wrong.code == 2
    assert "$.rules[0].decision" in wrong.err

    assert (await run(env, "chat", "--resume", chat_id, "--print", "Show me")).code != 0
    view = await until(client, chat_id, lambda view: view.status is Status.REQUIRES_ACTION)
    assert view.chat is not None
    assert view.chat.action is not None
    (approval,) = view.chat.action.approvals
    await client.resolve_approval(chat_id, approval.call_id, approved=True, scope="chat")
    await until(client, chat_id, lambda view: view.status is Status.WAITING)
    listed = await run(env, "policy", "grants")
    rows = [line.split()[:2] for line in listed.out.splitlines()[1:]]
    assert [tool for tool, where in rows if where == chat_id] == ["write_file"]
    assert await run(env, "policy", "revoke", "write_file", *of_chat) == (
        0,
        "write_file is asked about again\n",
        "",
    )
    again = await run(env, "policy", "revoke", "write_file", *of_chat)
    assert (again.code, again.out) == (1, "")
    assert "no such grant" in again.err

    book = (await run(env, "policy", "audit", "--limit", "3")).out.splitlines()
    assert [line.split()[2] for line in book[1:]] == [
        "grant.revoked",
        "approval.approved",
        "policy.changed",
    ]
