"""Answers from another server: requests passed on, streams read, tool calls checked."""
