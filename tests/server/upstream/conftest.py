"""Both ways in which bytes are carried to another server and back."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(params=["own", "aiohttp"])
def carrier(request, monkeypatch) -> str:
    """Carry bytes as usual, or as where there is no httptools."""
    if request.param == "aiohttp":
        monkeypatch.setitem(sys.modules, "openk2.server.upstream.own_connections", None)
    return request.param
