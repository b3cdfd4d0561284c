"""Render deploy/nats.conf from the permissions that `steersman up` uses: one source for both.

A test runs it and compares; run it after changing the permissions.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from steersman.embedded.nats import USERS, configuration

TARGET = Path(__file__).parent / "nats.conf"
_HEAD = """\
# Written by deploy/render_nats.py from the permissions in steersman.embedded.nats; do not edit.
# What is secret is a variable, defined in a secret that is included. The server takes such paths
# as relative to this file, in /etc/nats, whatever they begin with.
include ../../run/secrets/nats_users
include ../../run/secrets/nats_issuer

"""


def render() -> str:
    """The configuration of a server in a container."""
    passwords = {user: f"${user}_password" for user in USERS}
    settings = dict(configuration(Path("/data"), 4222, passwords, issuer="$deputy_issuer"))
    settings |= {"host": "0.0.0.0", "http": "127.0.0.1:8222"}
    del settings["ports_file_dir"]
    body = json.dumps(settings, indent=2)
    # A quoted variable would be the value itself.
    return _HEAD + re.sub(r'"(\$[a-z]+_(?:password|issuer))"', r"\1", body)[1:-1].strip("\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
