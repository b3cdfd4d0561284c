"""The parts Steersman brings along: PostgreSQL, nats-server and a small model, all from wheels."""
