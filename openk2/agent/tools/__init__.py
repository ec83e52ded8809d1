"""What an agent can do, one tool per file."""
