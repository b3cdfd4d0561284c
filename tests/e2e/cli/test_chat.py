from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from e2e.cli.conftest import StartChat, answers, streaming, text_of, until
from e2e.cli.terminal import PROMPT, environment, finish, run, start, terminal
from support.deployment import Deployment

from steersman.client import Client
from steersman_contracts.chats import Status

COUNT = ", ".join(str(number) for number in range(1, 201)) + "."


async def test_print_writes_the_answer_and_nothing_else(env: dict[str, str]) -> None:
    ended = await run(env, "chat", "--print", "--model", "demo/echo", "**Hello**, *you*")

    assert ended == (0, "**Hello**, *you*\n", "")


async def test_a_question_can_come_through_a_pipe(env: dict[str, str]) -> None:
    ended = await run(env, "chat", "--model", "echo", "--print", source="from a pipe\n")
    assert ended == (0, "from a pipe\n", "")

    ended = await run(env, "chat", "-m", "echo", "Look at this:", "-", source="a\nb\n")

    assert ended == (0, "Look at this:\n\na\nb\n", "")


async def test_a_tour_shows_thoughts_calls_and_results(env: dict[str, str]) -> None:
    async with terminal(env, "chat", "Show me") as person:
        assert await person.end() == 0
        seen = person.seen

    place = 0
    for text in (
        "A file shows the tools best.",
        "Let me write a small file.",
        "write_file(path=",
        "Now I read it back.",
        "read_file(path=",
        "Grey waves fold the sand",
        "It says:",
        "interrupt me while I speak.",
    ):
        place = seen.index(text, place)
    assert seen.count("Let me write a small file.") == 1
    assert "thinking" not in seen
    assert person.terminal.cursor_shown


async def test_thoughts_can_be_left_out(env: dict[str, str]) -> None:
    async with terminal(env, "chat", "--no-reasoning", "Show me") as person:
        assert await person.end() == 0

    assert "A file shows the tools best." not in person.seen
    assert "Let me write a small file." in person.seen


async def test_retries_are_counted_down_and_leave_only_the_answer_in_a_pipe(
    env: dict[str, str], deployment: Deployment
) -> None:
    with deployment.stopped("chatloop") as go_on:  # until somebody watches
        async with terminal(env, "chat", "-m", "flaky", "Try") as person:
            await person.until("thinking")
            piped = await start(env, "chat", "-m", "flaky", "--print", "Try")
            go_on()
            await person.until("attempt 1 failed (overloaded)")
            await person.until("trying again in")
            assert await person.end() == 0

    assert "It worked, after 2 attempts that failed." in person.seen
    assert "One moment" not in person.seen
    assert await finish(piped) == (0, "It worked, after 2 attempts that failed.\n", "")


async def test_an_error_ends_with_advice_and_a_status(env: dict[str, str]) -> None:
    ended = await run(env, "chat", "-m", "broken", "--print", "Hello")

    assert ended.code == 1
    assert ended.out == ""
    assert "config: " in ended.err
    assert "steersman model list" in ended.err


async def test_an_interrupt_from_the_keyboard_ends_the_turn_and_not_the_program(
    env: dict[str, str], client: Client
) -> None:
    async with terminal(env, "chat", "--model", "demo/count") as person:
        await person.until(PROMPT)
        person.type("Count\\\rplease\r")
        await person.until("5, 6, 7")
        person.type("\x03")
        await person.until("interrupted")
        seen = await person.until(PROMPT, count=2)
        person.type("/model echo\r")
        await person.until(PROMPT, count=3)
        person.type("still there?\r")
        await person.until(PROMPT, count=4)
        person.type("/title A test of mine\r")
        await person.until(PROMPT, count=5)
        person.type("/quit\r")
        assert await person.end() == 0

    chat = next(c for c in (await client.list_chats()).chats if c.title == "A test of mine")
    said = [text_of(message) for message in await answers(client, chat.id)]
    assert "".join(said[0].split()) in "".join(seen.split())
    assert COUNT.startswith(said[0])
    assert said[1] == "still there?"
    assert f"--resume {chat.id}" in person.seen
    assert chat.last_outcome == "completed"


async def test_an_interrupt_in_a_pipe_prints_what_was_said(
    env: dict[str, str], client: Client, start_chat: StartChat
) -> None:
    chat_id = await start_chat("demo/count")
    process = await start(env, "chat", "--resume", chat_id, "--print", "Count")
    await until(client, chat_id, streaming)
    process.send_signal(signal.SIGINT)
    ended = await finish(process)

    (stored,) = await answers(client, chat_id)
    assert ended == (130, text_of(stored) + "\n", "interrupted\n")
    assert stored.stop == "interrupted"
    assert COUNT.startswith(text_of(stored))
    assert (await client.get_chat(chat_id)).last_outcome == "interrupted"


async def test_a_second_interrupt_leaves_and_says_how_to_come_back(
    env: dict[str, str], client: Client, start_chat: StartChat, deployment: Deployment
) -> None:
    chat_id = await start_chat("demo/count")
    async with terminal(env, "chat", "--resume", chat_id, "Count") as person:
        await person.until("5, 6, 7")
        # The turn cannot end while its worker does not run.
        deployment.signal("chatloop", signal.SIGSTOP)
        try:
            person.type("\x03")
            await person.until("interrupting")
            person.type("\x03")
            assert await person.end() == 130
        finally:
            deployment.signal("chatloop", signal.SIGCONT)

    assert f"steersman chat --resume {chat_id}" in person.seen
    assert "5, 6, 7" in person.seen
    view = await until(client, chat_id, lambda view: view.resting)
    assert view.outcome == "interrupted"


async def test_resume_shows_a_turn_that_runs_to_its_end(
    env: dict[str, str], client: Client, start_chat: StartChat, deployment: Deployment
) -> None:
    chat_id = await start_chat("demo/count", "Count")
    await until(client, chat_id, streaming)
    with deployment.stopped("chatloop") as go_on:  # or it might have counted to its end by then
        async with terminal(env, "chat", "--resume", chat_id) as person:
            await person.until("1, 2")
            piped = await start(env, "chat", "--resume", chat_id, "--print")
            go_on()
            await person.until("5, 6, 7")
            # The gateways go away in the middle, and come back.
            deployment.signal("gateway", signal.SIGKILL)
            await person.until("198, 199, 200.")
            await person.until(PROMPT, count=2)  # the first one stands before the message
            person.type("\x04")
            assert await person.end() == 0

    assert "".join(COUNT.split()) in "".join(person.seen.split())
    assert person.seen.count("199") == 1
    assert await finish(piped) == (0, COUNT + "\n", "")


async def test_resume_without_an_id_goes_on_with_the_last_chat(
    env: dict[str, str], client: Client, start_chat: StartChat
) -> None:
    chat_id = await start_chat("demo/echo", "first")
    await until(client, chat_id, lambda view: view.resting)

    assert await run(env, "chat", "--resume", "second", "--print") == (0, "second\n", "")
    assert await run(env, "chat", "--print", "--resume") == (0, "second\n", "")

    assert [text_of(message) for message in await answers(client, chat_id)] == ["first", "second"]


async def test_a_message_to_a_busy_chat_waits_in_the_queue(
    env: dict[str, str], client: Client, start_chat: StartChat, deployment: Deployment
) -> None:
    chat_id = await start_chat("demo/count", "Count")
    await until(client, chat_id, streaming)
    with deployment.stopped("chatloop") as go_on:  # or it might have counted to its end by then
        async with terminal(env, "chat", "--resume", chat_id, "-m", "echo", "and then?") as person:
            await person.until("1 message waits in the queue")
            await client.interrupt(chat_id)
            go_on()
            assert await person.end() == 0

    assert person.seen.rstrip().endswith("and then?")
    assert (await client.get_chat(chat_id)).status is Status.WAITING


async def test_errors_say_what_to_do(deployment: Deployment, tmp_path: Path) -> None:
    bare = environment(tmp_path)
    nowhere, wrong, gone, foreign, usage, model = await asyncio.gather(
        run(bare, "chat", "--data", str(tmp_path), "hello"),
        run(bare, "chat", "--url", deployment.url, "--token", "wrong", "hello"),
        run(bare, "chat", "--url", "http://127.0.0.1:1", "--token", "any", "hello"),
        run(bare, "chat", "--url", deployment.url, "hello"),
        run(bare, "chat", "--data", str(deployment.data)),
        run(bare, "chat", "--data", str(deployment.data), "-m", "demo/ecko", "hello"),
    )

    assert nowhere.code == 4
    assert "steersman up" in nowhere.err
    assert wrong.code == 1
    assert "the token is not accepted" in wrong.err
    assert gone.code == 4
    assert "nothing answers at http://127.0.0.1:1" in gone.err
    assert foreign.code == 1
    assert "STEERSMAN_TOKEN" in foreign.err
    assert usage.code == 2
    assert "no message" in usage.err
    assert model.code == 1
    assert "did you mean 'demo/echo'?" in model.err
    assert {one.out for one in (nowhere, wrong, gone, foreign, usage, model)} == {""}


async def test_the_environment_says_where_to_chat(deployment: Deployment, tmp_path: Path) -> None:
    env = environment(
        tmp_path, STEERSMAN_URL=deployment.url + "/", STEERSMAN_TOKEN=deployment.token
    )

    assert await run(env, "chat", "-m", "echo", "hello") == (0, "hello\n", "")
