"""The tools of servers on disk, so that they can be offered before a server runs.

In: a folder, a clock. Out: what a server told last under exactly this configuration.
Must not know: connections.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from openk2.agent.mcp.config import McpSettings, ServerEntry
from openk2.agent.mcp.schema import RemoteTool, Unusable, read_tool

_VERSION = 1


class ToolCache:
    """One file per configuration of a server; a file that cannot be read is as good as none."""

    def __init__(
        self, folder: Path | None, settings: McpSettings, clock: Callable[[], float]
    ) -> None:
        """Keep files in `folder`, or nothing if it is None.

        Args:
            folder: Where.
            settings: How long a list is believed.
            clock: Seconds since 1970.
        """
        self._folder = folder
        self._settings = settings
        self._clock = clock

    def load(self, config: ServerEntry) -> tuple[RemoteTool, ...] | None:
        """Return what is known about a server's tools, if it is young enough."""
        if self._folder is None:
            return None
        try:
            saved: Any = json.loads(self._path(self._folder, config).read_text(encoding="utf-8"))
            age = self._clock() - saved["saved"]
            if saved["version"] != _VERSION or not 0 <= age <= self._settings.cache_seconds:
                return None
            # Read as strictly as from the server: anybody may have written the file.
            return tuple(
                read_tool(raw, self._settings) for raw in cast("list[Any]", saved["tools"])
            )
        except (OSError, ValueError, TypeError, KeyError, Unusable):
            return None

    def store(self, config: ServerEntry, tools: tuple[RemoteTool, ...]) -> None:
        """Remember a server's tools; a folder that cannot be written is no reason to stop."""
        if self._folder is None:
            return
        listed = [tool.to_json() for tool in tools]
        text = json.dumps({"version": _VERSION, "saved": self._clock(), "tools": listed})
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._folder, delete=False, encoding="utf-8"
            ) as file:
                file.write(text)
            os.replace(file.name, self._path(self._folder, config))  # noqa: PTH105
        except OSError:
            return

    @staticmethod
    def _path(folder: Path, config: ServerEntry) -> Path:
        return folder / f"{config.digest()[:32]}.json"
