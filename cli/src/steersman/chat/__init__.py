"""`steersman chat`: chats in the terminal, over the public API alone."""

from steersman.chat.command import chat

__all__ = ["chat"]
