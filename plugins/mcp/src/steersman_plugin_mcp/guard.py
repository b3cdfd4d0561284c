"""Connections for users: only to addresses that a user may make us reach."""

from __future__ import annotations

import httpcore2
import httpx2

from steersman_contracts.addresses import PrivateHosts, Refused
from steersman_contracts.guarded import GuardedBackend


class GuardedTransport(httpx2.AsyncHTTPTransport):
    """HTTP without proxies, to checked addresses alone."""

    def __init__(self, private: PrivateHosts, limits: httpx2.Limits) -> None:
        """Check against public addresses, and what an administrator allows beside them."""
        super().__init__(limits=limits)
        # It takes no backend: the pool is its one field.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=httpcore2.default_ssl_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=GuardedBackend(private),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send it; an address that may not be reached is a kind of error that the SDK knows."""
        try:
            return await super().handle_async_request(request)
        except Refused as refused:
            raise httpx2.ConnectError(str(refused), request=request) from refused
