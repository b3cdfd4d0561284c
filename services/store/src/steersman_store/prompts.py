"""The texts that people put before models, and the skills of the deployment."""

from __future__ import annotations

import msgspec

from steersman_contracts.errors import InvalidRequest
from steersman_contracts.rpc import Nothing
from steersman_contracts.rpc import prompts as rpc
from steersman_runtime.rpc import RpcServer
from steersman_store.database import Database, json_text
from steersman_store.people import admins_only
from steersman_store.worker import Worker

_MAX_FILES_BYTES = 512 * 1024
_MAX_PATH = 200


class Prompts:
    """The handlers of the group `prompts`."""

    def __init__(self, database: Database, worker: Worker) -> None:
        self._database = database
        self._worker = worker

    def serve(self, server: RpcServer) -> None:
        """Answer the methods of this group."""
        server.add(rpc.GET_PROMPT, self.get)
        server.add(rpc.PUT_PROMPT, self.put)
        server.add(rpc.LIST_SKILLS, self.list_skills)
        server.add(rpc.GET_SKILL, self.get_skill)
        server.add(rpc.PUT_SKILL, self.put_skill)
        server.add(rpc.DELETE_SKILL, self.delete_skill)
        server.add(rpc.LOOK_UP_SKILL, self.look_up)
        server.add(rpc.LOOK_AT_CHAT, self.look_at)

    async def get(self, request: rpc.GetPrompt) -> rpc.Prompt:
        row = await self._database.row(
            "SELECT body, compaction_threshold FROM prompts "
            "WHERE level = $1 AND subject IS NOT DISTINCT FROM $2",
            request.level,
            request.actor.user_id if request.level == "user" else None,
        )
        return rpc.Prompt() if row is None else rpc.Prompt(row["body"], row["compaction_threshold"])

    async def put(self, request: rpc.PutPrompt) -> rpc.Prompt:
        if request.level == "system":
            admins_only(request.actor)
            if request.compaction_threshold is not None:
                raise InvalidRequest(
                    "the deployment's threshold is a setting of its models",
                    field="compaction_threshold",
                )
        await self._database.value(
            "SELECT put_prompt($1, $2, $3, $4, $5)",
            request.actor.user_id,
            request.level,
            request.actor.user_id if request.level == "user" else None,
            request.text,
            request.compaction_threshold,
        )
        return rpc.Prompt(request.text, request.compaction_threshold)

    async def list_skills(self, _: rpc.ListSkills) -> rpc.SkillList:
        rows = await self._database.rows(
            "SELECT name, description, updated_at FROM skills ORDER BY name"
        )
        return rpc.SkillList(
            tuple(
                rpc.SkillEntry(row["name"], row["description"], row["updated_at"]) for row in rows
            )
        )

    async def get_skill(self, request: rpc.GetSkill) -> msgspec.Raw:
        return await self._database.raw("SELECT get_skill($1)", request.name)

    async def put_skill(self, request: rpc.PutSkill) -> msgspec.Raw:
        admins_only(request.actor)
        _check_files(request.files)
        return await self._database.raw(
            "SELECT put_skill($1, $2, $3, $4, $5)",
            request.actor.user_id,
            request.name,
            request.description,
            request.text,
            json_text(request.files),
        )

    async def delete_skill(self, request: rpc.DeleteSkill) -> Nothing:
        admins_only(request.actor)
        await self._database.value(
            "SELECT delete_skill($1, $2)", request.actor.user_id, request.name
        )
        return Nothing()

    async def look_up(self, request: rpc.LookUpSkill) -> msgspec.Raw:
        # Every chat has all of them: who asks need not be its owner.
        return await self._database.raw("SELECT get_skill($1)", request.name)

    async def look_at(self, request: rpc.LookAtChat) -> rpc.LookedAt:
        chat = await self._worker.look_at(request.actor.user_id, request.chat_id)
        return rpc.LookedAt(chat)


def _check_files(files: dict[str, str]) -> None:
    for path, text in files.items():
        names = path.split("/")
        if (
            not path
            or len(path) > _MAX_PATH
            or not path.isprintable()
            or any(name in ("", ".", "..") for name in names)
        ):
            raise InvalidRequest(
                f"{path!r:.100} is not a path below a skill", field=f"files.{path:.100}"
            )
        if "\0" in text:
            raise InvalidRequest(f"{path!r} is not text", field=f"files.{path}")
    if sum(len(text.encode()) for text in files.values()) > _MAX_FILES_BYTES:
        raise InvalidRequest(
            f"the files are larger than {_MAX_FILES_BYTES} bytes together", field="files"
        )
