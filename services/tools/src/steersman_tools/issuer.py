"""`python -m steersman_tools.issuer` prints the issuer for the configuration of NATS.

It is the public half of the key that `STEERSMAN_TOOLS_DEPUTY_SECRET` makes; nothing else is read.
"""

from __future__ import annotations

import sys

import msgspec

from steersman_contracts.secret import Secret
from steersman_runtime.settings import BadSettings, load_settings
from steersman_tools.deputy_access import Keys


class IssuerSettings(msgspec.Struct, frozen=True):
    """The one setting that matters."""

    deputy_secret: Secret


def main() -> int:
    """Print it; returns the exit status."""
    try:
        settings = load_settings(IssuerSettings, "tools")
        issuer = Keys(settings.deputy_secret.reveal()).issuer
    except (BadSettings, ValueError) as error:
        sys.stderr.write(f"issuer: {error}\n")
        return 2
    sys.stdout.write(f"{issuer}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
