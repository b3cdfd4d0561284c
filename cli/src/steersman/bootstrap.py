"""Let the operator in: the store makes the first admin, a token and a sign-in code."""

import hashlib
from dataclasses import dataclass

from steersman.datadir import DataDir
from steersman.private import write_private
from steersman_contracts.errors import SteersmanError
from steersman_contracts.rpc.admin import BOOTSTRAP
from steersman_contracts.rpc.admin import Bootstrap as Request
from steersman_contracts.subjects import inbox
from steersman_runtime.nats_client import close, connect
from steersman_runtime.rpc import RpcClient


class BootstrapFailed(RuntimeError):
    """The store did not let us in; the text says why."""


@dataclass(frozen=True)
class Bootstrap:
    """How the operator gets in."""

    token: str
    sign_in_code: str
    default_model: str | None


async def bootstrap(nats_url: str, data: DataDir) -> Bootstrap:
    """Make sure that there is an admin whose token lies in the data directory.

    Args:
        nats_url: With the credentials of the command line's own user.
        data: Where the token of an earlier start is, if it is still good.
    """
    known = data.api_token.read_text().strip() if data.api_token.exists() else None
    digest = hashlib.sha256(known.encode()).hexdigest() if known else None
    client = await connect(
        nats_url, name="cli/up", inbox_prefix=inbox("cli"), on_closed=lambda: None
    )
    try:
        reply = await RpcClient(client).call(BOOTSTRAP, Request(known_token_digest=digest))
    except (TimeoutError, SteersmanError) as error:
        raise BootstrapFailed(f"the first admin could not be made: {error}") from error
    finally:
        await close(client)
    token = reply.token or known
    if token is None:
        raise BootstrapFailed("the store gave no token")
    if reply.token is not None:
        write_private(data.api_token, token + "\n")
    return Bootstrap(token, reply.sign_in_code, reply.default_model)
