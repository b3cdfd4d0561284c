"""The people of a deployment, for its admins."""

from __future__ import annotations

from typing import Annotated

from litestar import Controller, Response, get, patch, post
from litestar.params import JSONBody, PathParameter

from steersman_contracts.errors import NotFound
from steersman_contracts.ids import UserId, is_chat_id
from steersman_contracts.rest import CreateUserBody, PatchUserBody, Users
from steersman_contracts.rpc import users as rpc
from steersman_gateway.auth import CurrentActor, requires_admin
from steersman_gateway.backend import Services

UserIdText = Annotated[str, PathParameter(description="The user: a lower-case UUID.")]


class UserController(Controller):
    """Add people, send them sign-in links, disable them."""

    path = "/users"
    tags = ("Users",)
    guards = (requires_admin,)

    @post("/", operation_id="createUser", summary="Add a user")
    async def create(
        self, data: JSONBody[CreateUserBody], actor: CurrentActor, backend: Services
    ) -> Response[rpc.SignIn]:
        """Add a person. `code` is the way in: open `/sign-in/<code>`, once. Admins only."""
        made = await backend.call(rpc.CREATE_USER, rpc.CreateUser(actor, data.name, data.role))
        return Response(made, headers={"Location": f"/api/v1/users/{made.user.id}"})

    @get("/", operation_id="listUsers", summary="List users")
    async def list_users(self, actor: CurrentActor, backend: Services) -> Users:
        """Everybody, by name. Admins only."""
        return Users((await backend.call(rpc.LIST_USERS, rpc.ListUsers(actor))).users)

    @patch("/{user_id:str}", operation_id="updateUser", summary="Change a user")
    async def update(
        self,
        user_id: UserIdText,
        data: JSONBody[PatchUserBody],
        actor: CurrentActor,
        backend: Services,
    ) -> rpc.Account:
        """Disable a person or change the role; one admin always stays. Admins only."""
        request = rpc.UpdateUser(actor, _known(user_id), role=data.role, disabled=data.disabled)
        return (await backend.call(rpc.UPDATE_USER, request)).user

    @post(
        "/{user_id:str}/sign-in",
        operation_id="createSignIn",
        summary="Make a sign-in link",
        status_code=200,
    )
    async def sign_in(
        self, user_id: UserIdText, actor: CurrentActor, backend: Services
    ) -> rpc.SignIn:
        """Make a new link for a person; earlier ones stop working. Admins only."""
        return await backend.call(rpc.NEW_SIGN_IN, rpc.NewSignIn(actor, _known(user_id)))


def _known(user_id: str) -> UserId:
    if not is_chat_id(user_id):
        raise NotFound("there is no such user")
    return UserId(user_id)
