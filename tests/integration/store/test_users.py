"""Further people: how they get in, and how they are kept out."""

from __future__ import annotations

import pytest
from support.chat_driver import StoreDriver

from steersman_contracts.errors import Conflict, Forbidden, NotFound, Unauthenticated
from steersman_contracts.ids import UserId
from steersman_contracts.rpc import Actor, identity
from steersman_contracts.rpc import users as rpc
from steersman_contracts.rpc.admin import BOOTSTRAP, Bootstrap
from steersman_store.secrets import digest


async def test_a_user_gets_in_once_by_a_link_and_is_kept_out_when_disabled(
    store: StoreDriver,
) -> None:
    call = store.rpc.call
    admin = Actor((await call(BOOTSTRAP, Bootstrap())).user_id, "admin")
    made = await call(rpc.CREATE_USER, rpc.CreateUser(admin, "Zoe"))
    assert (made.user.name, made.user.role, made.user.disabled) == ("Zoe", "member", False)

    token = (await call(identity.REDEEM_SIGN_IN, identity.RedeemSignIn(digest(made.code)))).token
    who = await call(identity.AUTHENTICATE, identity.Authenticate(digest(token)))
    assert who.actor == Actor(made.user.id, "member")
    with pytest.raises(NotFound):
        await call(identity.REDEEM_SIGN_IN, identity.RedeemSignIn(digest(made.code)))

    old, new = [await call(rpc.NEW_SIGN_IN, rpc.NewSignIn(admin, made.user.id)) for _ in range(2)]
    with pytest.raises(NotFound):
        await call(identity.REDEEM_SIGN_IN, identity.RedeemSignIn(digest(old.code)))
    disabled = await call(rpc.UPDATE_USER, rpc.UpdateUser(admin, made.user.id, disabled=True))
    assert disabled.user.disabled
    with pytest.raises(Unauthenticated):
        await call(identity.AUTHENTICATE, identity.Authenticate(digest(token)))
    with pytest.raises(NotFound):
        await call(identity.REDEEM_SIGN_IN, identity.RedeemSignIn(digest(new.code)))
    with pytest.raises(Conflict):
        await call(rpc.NEW_SIGN_IN, rpc.NewSignIn(admin, made.user.id))

    await call(rpc.UPDATE_USER, rpc.UpdateUser(admin, made.user.id, disabled=False))
    who = await call(identity.AUTHENTICATE, identity.Authenticate(digest(token)))
    assert who.user.name == "Zoe"
    listed = (await call(rpc.LIST_USERS, rpc.ListUsers(admin))).users
    assert [(user.name, user.role) for user in listed] == [
        ("Zoe", "member"),
        ("admin", "admin"),
        ("alice", "member"),
    ]


async def test_names_are_taken_once_and_one_admin_always_stays(store: StoreDriver) -> None:
    call = store.rpc.call
    admin = Actor((await call(BOOTSTRAP, Bootstrap())).user_id, "admin")
    with pytest.raises(Conflict) as refused:
        await call(rpc.CREATE_USER, rpc.CreateUser(admin, "alice"))
    assert refused.value.details["field"] == "name"
    for change in (
        rpc.UpdateUser(admin, admin.user_id, disabled=True),
        rpc.UpdateUser(admin, admin.user_id, role="member"),
    ):
        with pytest.raises(Conflict):
            await call(rpc.UPDATE_USER, change)
    await call(rpc.UPDATE_USER, rpc.UpdateUser(admin, store.actor.user_id, role="admin"))
    await call(rpc.UPDATE_USER, rpc.UpdateUser(admin, admin.user_id, disabled=True))
    nobody = UserId("00000000-0000-4000-8000-000000000000")
    with pytest.raises(NotFound):
        await call(rpc.UPDATE_USER, rpc.UpdateUser(admin, nobody, disabled=True))


async def test_only_admins_see_and_change_people(store: StoreDriver) -> None:
    me = store.actor
    with pytest.raises(Forbidden):
        await store.rpc.call(rpc.CREATE_USER, rpc.CreateUser(me, "x"))
    with pytest.raises(Forbidden):
        await store.rpc.call(rpc.LIST_USERS, rpc.ListUsers(me))
    with pytest.raises(Forbidden):
        await store.rpc.call(rpc.UPDATE_USER, rpc.UpdateUser(me, me.user_id, role="admin"))
    with pytest.raises(Forbidden):
        await store.rpc.call(rpc.NEW_SIGN_IN, rpc.NewSignIn(me, me.user_id))
