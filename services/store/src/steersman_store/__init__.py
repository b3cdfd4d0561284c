"""The truth: chats in PostgreSQL, changed only by transitions and announced by an outbox."""
