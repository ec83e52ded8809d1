"""Worlds: typed state, tools that change it, tasks that prove themselves."""
