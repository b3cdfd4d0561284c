"""How a service of Steersman runs: settings, logging, NATS and RPC, health, lifecycle."""
