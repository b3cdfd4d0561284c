"""The Python client of the public API, with the reducer that turns events into a view.

    async with Client("http://127.0.0.1:8700", token) as client:
        reply = await client.create_chat(CreateChatBody(text="Hello"))
        view = View()
        async for received in client.events(reply.chat.id):
            view.apply(received.event)
            if view.resting:
                break

A list of all chats, kept up to date:

    async for chats in client.watch_chats():
        show(chats.chats)

The bodies and answers are the structs of `steersman_contracts`.
"""

from steersman.client.api import Client
from steersman.client.list_reducer import ChatsView
from steersman.client.problems import ApiProblem, ClientError, UnexpectedAnswer, Unreachable
from steersman.client.reducer import RESTING, View
from steersman.client.stream import Interruption, Listed, Received

__all__ = [
    "RESTING",
    "ApiProblem",
    "ChatsView",
    "Client",
    "ClientError",
    "Interruption",
    "Listed",
    "Received",
    "UnexpectedAnswer",
    "Unreachable",
    "View",
]
