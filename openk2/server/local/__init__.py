"""Answers from the engine in this process: conversations to tokens, and tokens to events."""
