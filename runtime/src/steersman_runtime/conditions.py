"""Conditions of rules about tool calls, evaluated in processes of their own.

They are written in the Common Expression Language, by anybody. An evaluation always comes to its
end, but that can be after years, or after all memory of the machine; it cannot be stopped inside a
process, and holds up everything else in it.

A service that evaluates conditions depends on `common-expression-language`; the others do not.
"""

from __future__ import annotations

import asyncio
import os
import struct
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import structlog

log = structlog.stdlib.get_logger()

LIMIT_S: Final = 3.0
WHOLE_S: Final = 5.0
MOST: Final = 4
"""Processes at the same time."""
_IDLE: Final = 1
"""Processes that are kept for whoever asks next."""
_LENGTH: Final = struct.Struct(">I")
_PROGRAM: Final = Path(__file__).with_name("condition_program.py")


class Question(NamedTuple):
    """Conditions about one call."""

    values: Mapping[str, Any]
    """What they see."""
    conditions: Sequence[str]


class Conditions:
    """Evaluates conditions. One that fails, or takes too long, has no answer."""

    def __init__(self, *, limit_s: float = LIMIT_S) -> None:
        """Start nothing yet.

        Args:
            limit_s: Seconds that one condition may take, on any clock.
        """
        self._limit_s = limit_s
        self._idle: list[_Program] = []
        self._free = asyncio.Semaphore(MOST)

    async def holding(
        self, questions: Sequence[Question], *, within_s: float = WHOLE_S
    ) -> list[dict[str, bool]]:
        """Evaluate.

        Args:
            questions: What is asked; without any condition nothing is started.
            within_s: Seconds for all of it; what is not evaluated by then has no answer.

        Returns:
            For each question, condition → whether it holds. One that has no answer is missing.
        """
        until = time.monotonic() + within_s
        found: list[dict[str, bool]] = []
        for question in questions:
            answers = await self._ask("conditions", question.conditions, question.values, until)
            pairs = zip(question.conditions, answers, strict=True)
            found.append({one: held for one, held in pairs if isinstance(held, bool)})
        return found

    async def problems(self, conditions: Sequence[str]) -> list[str | None]:
        """What keeps each of them from being evaluated at all; None for nothing."""
        until = time.monotonic() + WHOLE_S
        answers = await self._ask("compile", conditions, {}, until)
        return ["it takes too long to read" if one is _LOST else one for one in answers]

    async def aclose(self) -> None:
        """End what still runs."""
        while self._idle:
            await self._idle.pop().end()

    async def _ask(
        self, what: str, conditions: Sequence[str], values: Mapping[str, Any], until: float
    ) -> list[Any]:
        """One answer for each condition; one on which a process ends costs its own alone."""
        found: list[Any] = []
        while len(found) < len(conditions):
            rest = conditions[len(found) :]
            if time.monotonic() >= until:
                log.warning("conditions.given_up", conditions=len(rest))
                return [*found, *(_LOST for _ in rest)]
            async with self._program() as program:
                if program is None:
                    return [*found, *(_LOST for _ in rest)]
                request = msgspec.json.encode({what: rest, "values": values})
                try:
                    async with asyncio.timeout_at(_loop_time(until)):
                        await program.send(request)
                    for _ in rest:
                        late = min(until, time.monotonic() + self._limit_s)
                        async with asyncio.timeout_at(_loop_time(late)):
                            found.append(await program.answer())
                    program.answered()
                except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                    log.warning(
                        "condition.lost",
                        condition=conditions[len(found)][:200],
                        error=repr(error)[:200],
                    )
                    found.append(_LOST)
        return found

    @asynccontextmanager
    async def _program(self) -> AsyncGenerator[_Program | None]:
        async with self._free:
            program: _Program | None = None
            while self._idle and program is None:
                program = self._idle.pop()
                if program.ended:
                    await program.end()
                    program = None
            if program is None:
                try:
                    program = await _Program.start()
                except OSError:
                    log.exception("conditions.not_started")
                    yield None
                    return
            try:
                yield program
            finally:
                if program.is_clean and len(self._idle) < _IDLE:
                    self._idle.append(program)
                else:
                    await program.end()


class _Lost:
    """In place of an answer that never came."""


_LOST: Final = _Lost()


class _Program:
    """One process; a question at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._asked, self._answers = process.stdin, process.stdout
        self._open = False

    @classmethod
    async def start(cls) -> _Program:
        """Start it, with nothing of ours in its environment."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(_PROGRAM)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8"},
            start_new_session=True,
        )
        return cls(process)

    @property
    def ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def is_clean(self) -> bool:
        """Whether the next question would get its own answers."""
        return not self.ended and not self._open

    async def send(self, request: bytes) -> None:
        self._open = True
        self._asked.write(_LENGTH.pack(len(request)) + request)
        await self._asked.drain()

    async def answer(self) -> Any:
        size = _LENGTH.unpack(await self._answers.readexactly(_LENGTH.size))[0]
        return msgspec.json.decode(await self._answers.readexactly(size))

    def answered(self) -> None:
        """All answers of the last question are read."""
        self._open = False

    async def end(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()
