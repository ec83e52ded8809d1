"""Stop strings in a text that arrives in pieces.

In: pieces of text. Out: the text before the first stop string, as early as it is certain.
Must not know: tokens, or what the text is part of.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the stop string that completes first; of those that complete together, the longest."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Watch for `stops`; an empty sequence lets everything through."""
        self._stops = tuple(stops)
        self._held = ""
        self.match: str | None = None
        """The stop string that was found."""

    def feed(self, piece: str) -> str:
        """Take the next piece and return the text that can no longer become part of a match.

        Once a stop string was found it is in `match`, and nothing more comes out.
        """
        if self.match is not None:
            return ""
        text = self._held + piece
        ends = [
            (start + len(stop), start, stop)
            for stop in self._stops
            if (start := text.find(stop)) >= 0
        ]
        if ends:
            _, start, self.match = min(ends)
            self._held = ""
            return text[:start]
        keep = max((_open_prefix(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back: the text ends here, so it cannot become a match."""
        held, self._held = self._held, ""
        return held


def _open_prefix(text: str, stop: str) -> int:
    """How many characters at the end of `text` are a beginning of `stop`."""
    for length in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
