"""Make the secrets of a deployment under compose, once.

Run it as `python3 deploy/make_secrets.py`, and again after an update, which may want one more. It
needs nothing but Python. Files that exist are left alone. The folder is closed to others; the files
are readable, because the users inside the containers must read what compose mounts.
"""

from __future__ import annotations

import base64
import os
import runpy
import secrets
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE / "secrets"
# It needs no other module, and what it says must be said once.
NKEYS = HERE.parent / "contracts" / "src" / "steersman_contracts" / "nkeys.py"
SERVICES = ("gateway", "store", "chatloop", "tools", "desktop", "cli", "toolhost")


def main() -> None:
    """Write what is missing."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    database = _secret("postgres_password", secrets.token_urlsafe(24))
    _secret("database_url", f"postgresql://steersman:{database}@postgres:5432/steersman")
    _secret("secret_key", base64.b64encode(os.urandom(32)).decode())
    deputies = _secret("deputy_secret", secrets.token_urlsafe(48))
    _secret("nats_issuer.conf", f'deputy_issuer: "{_issuer(deputies)}"\n')
    passwords = {name: secrets.token_urlsafe(24) for name in (*SERVICES, "system")}
    users = "".join(f'{name}_password: "{word}"\n' for name, word in passwords.items())
    if _secret("nats_users.conf", users) == users:
        for name in passwords:
            url = f"nats://{name}:{passwords[name]}@nats:4222"
            (FOLDER / f"{name}_nats_url").unlink(missing_ok=True)
            _secret(f"{name}_nats_url", url)


def _issuer(secret: str) -> str:
    """Who signs what connections of containers to NATS may do: the public half of a secret."""
    nkeys = runpy.run_path(str(NKEYS))
    public_key = runpy.run_path(str(HERE / "ed25519.py"))["public_key"]
    return nkeys["account_key"](public_key(nkeys["signing_seed"](secret)))


def _secret(name: str, value: str) -> str:
    """Write a secret unless it is there.

    Returns:
        What the file holds now.
    """
    path = FOLDER / name
    if path.exists():
        return path.read_text(encoding="utf-8")
    # The folder keeps others out; inside the containers other users than ours must read it.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(value)
    return value


if __name__ == "__main__":
    main()
