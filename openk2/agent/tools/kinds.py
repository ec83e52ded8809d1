"""What a file that is no text is, from its first bytes.

In: the first bytes and the size of a file. Out: a sentence for the model, or nothing for text.
Must not know: tools, or where the file is.
"""

from __future__ import annotations

import struct

_SIGNATURES = (
    (b"%PDF-", "a PDF document", "read its text with code (pypdf, pdftotext)"),
    (b"PK\x03\x04", "a zip archive or an office document", "open it with code"),
    (b"\x1f\x8b", "gzip data", "unpack it with code"),
    (b"SQLite format 3\0", "a SQLite database", "query it with code (sqlite3)"),
    (b"PAR1", "a Parquet table", "read it with code (pandas)"),
    (b"\x7fELF", "a program", "run it in the shell"),
)


def describe_binary(start: bytes, size: int) -> str:
    """Say what a file is and what to do with it; an empty string for text.

    Args:
        start: Its first few thousand bytes.
        size: All its bytes.
    """
    image = image_size(start)
    if image:
        name, width, height = image
        return (
            f"an image ({name}, {width} × {height} pixels, {size:,} bytes), which cannot be read "
            "as text. Look at it with code where that matters."
        )
    for signature, name, advice in _SIGNATURES:
        if start.startswith(signature):
            return f"{name} of {size:,} bytes, not text: {advice}."
    if b"\0" in start or _is_not_text(start):
        return f"binary data of {size:,} bytes, not text: open it with code."
    return ""


def image_size(start: bytes) -> tuple[str, int, int] | None:
    """Return an image's format, width and height; None for anything else."""
    if start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) >= 24:
        return "PNG", *struct.unpack(">II", start[16:24])
    if start[:6] in (b"GIF87a", b"GIF89a") and len(start) >= 10:
        return "GIF", *struct.unpack("<HH", start[6:10])
    if start.startswith(b"\xff\xd8"):
        return _jpeg_size(start)
    if start[:4] == b"RIFF" and start[8:16] == b"WEBPVP8X" and len(start) >= 30:
        width, height = (int.from_bytes(start[at : at + 3], "little") + 1 for at in (24, 27))
        return "WebP", width, height
    return None


def _jpeg_size(start: bytes) -> tuple[str, int, int] | None:
    at = 2
    while at + 9 <= len(start) and start[at] == 0xFF:
        marker, length = start[at + 1], int.from_bytes(start[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", start[at + 5 : at + 9])
            return "JPEG", width, height
        at += 2 + length
    return None


def _is_not_text(start: bytes) -> bool:
    # Latin letters in an old encoding are a few bytes in a hundred; data is mostly such bytes.
    wrong = start.decode("utf-8", errors="replace")[:-1].count("\ufffd")
    return wrong > len(start) // 3
