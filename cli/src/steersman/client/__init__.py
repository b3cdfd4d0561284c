"""The Python client of the public API, with the reducer that turns events into a view.

    async with Client("http://127.0.0.1:8700", token) as client:
        reply = await client.create_chat(CreateChatBody(text="Hello"))
        view = View()
        async for received in client.events(reply.chat.id):
            view.apply(received.event)
            if view.resting:
                break

The bodies and answers are the structs of `steersman_contracts`.
"""

from steersman.client.api import Client
from steersman.client.problems import ApiProblem, ClientError, UnexpectedAnswer, Unreachable
from steersman.client.reducer import RESTING, View
from steersman.client.stream import Interruption, Received

__all__ = [
    "RESTING",
    "ApiProblem",
    "Client",
    "ClientError",
    "Interruption",
    "Received",
    "UnexpectedAnswer",
    "Unreachable",
    "View",
]
