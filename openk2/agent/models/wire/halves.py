"""Text whose characters an endpoint cuts in two.

In: pieces of text. Out: the same text, in pieces of whole characters.
Must not know: where the pieces come from.

Servers that count in UTF-16 cut an emoji into two surrogates, one in each delta. Neither can be
encoded, shown or written to a file; together they are a character.
"""

from __future__ import annotations


class Halves:
    """Puts the halves of one text together."""

    def __init__(self) -> None:
        """Start a text."""
        self._half = ""

    def whole(self, piece: str) -> str:
        """Return what is whole by now; a half without its other is a replacement character."""
        if self._half:
            piece, self._half = self._half + piece, ""
        if piece.isascii():
            return piece
        if "\ud800" <= piece[-1] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        try:
            piece.encode()
        except UnicodeEncodeError:
            return piece.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return piece
