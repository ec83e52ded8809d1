"""What a server answered to a call, as our agent's tools answer.

In: content blocks of the protocol. Out: text for the model, files in the workspace for the rest.
Must not know: connections, or which tool was called beyond its name.
"""

from __future__ import annotations

import base64
import binascii
import json
import mimetypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openk2.agent.mcp.schema import plain
from openk2.agent.tool import Call, ToolResult
from openk2.agent.tools.confined import reach

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock

FOLDER = "mcp"
"""Where files of servers go, in the workspace."""

_LABEL = 200
_EXTENSIONS = {"audio/wav": ".wav", "image/jpeg": ".jpg", "image/webp": ".webp"}


def read_result(answer: CallToolResult, tool: str, call: Call) -> ToolResult:
    """Turn an answer into text and files.

    Args:
        answer: What the server sent.
        tool: The name by which the model called.
        call: Where its files go.
    """
    files = _Files(tool, call)
    parts = [part for block in answer.content for part in _read_block(block, files)]
    structured: Any = answer.structured_content
    if structured is not None and not any(part.strip() for part in parts):
        # The protocol asks servers to reprint structured content as text; this one did not.
        parts.append(json.dumps(structured, ensure_ascii=False, indent=1))
    return ToolResult(
        "\n".join(parts) or "(it answered without content)",
        artifacts=tuple(files.written),
        untrusted=True,
        failed=bool(answer.is_error),
        details={} if structured is None else {"structured": structured},
    )


def _read_block(block: ContentBlock, files: _Files) -> Iterator[str]:
    match block.type:
        case "text":
            yield block.text
        case "image" | "audio":
            yield files.keep(block.data, block.mime_type, block.type)
        case "resource_link":
            yield f"[resource {plain(block.name, _LABEL)}: {plain(block.uri, 4 * _LABEL)}]"
        case "resource":
            resource = block.resource
            yield f"[resource {plain(resource.uri, 4 * _LABEL)}]"
            text = getattr(resource, "text", None)
            if isinstance(text, str):
                yield text
            else:
                blob = getattr(resource, "blob", "")
                yield files.keep(blob, resource.mime_type or "", "resource")


class _Files:
    """Writes what is not text beside each other, under names that say which call made them."""

    def __init__(self, tool: str, call: Call) -> None:
        self.written: list[Path] = []
        self._workspace = call.workspace
        self._stem = f"{tool}-{re.sub(r'[^A-Za-z0-9_-]', '_', call.id)[-40:]}"

    def keep(self, data: str, mime: str, kind: str) -> str:
        """Write base64 to a new file; return the line that tells the model."""
        try:
            content = base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            return f"[{kind} left out: its data is not base64]"
        kind_of_file = mime.split(";")[0].strip().lower()
        extension = _EXTENSIONS.get(kind_of_file) or mimetypes.guess_extension(kind_of_file)
        name = f"{FOLDER}/{self._stem}-{len(self.written) + 1}{extension or '.bin'}"
        with reach(self._workspace, name, create=True) as place:
            place.write(content)
        self.written.append(self._workspace / name)
        return f"[{kind} {plain(mime, 60) or 'of unknown type'}, {len(content):,} bytes: {name}]"
