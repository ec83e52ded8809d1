"""Who an agent can talk to, one kind of endpoint per file."""
