"""Which sequence owns which row of the latent cache.

In: how many rows there are. Out: row numbers, each owned by at most one sequence.
Must not know: what is written in the rows, or what a request is.
"""

from __future__ import annotations


class SlotPool:
    """Lends the rows 0 … slots - 1 of a cache, one per sequence."""

    def __init__(self, slots: int) -> None:
        """Begin with every row free."""
        # Reversed, so that the lowest free row is lent first and a small batch stays compact.
        self._free = list(range(slots - 1, -1, -1))
        self._lent: set[int] = set()

    @property
    def free(self) -> int:
        """How many rows can be acquired now."""
        return len(self._free)

    def acquire(self) -> int:
        """Lend a free row.

        Raises:
            RuntimeError: Every row is lent.
        """
        if not self._free:
            raise RuntimeError(
                f"all {len(self._lent)} cache slots are lent; check `free` before acquiring one"
            )
        slot = self._free.pop()
        self._lent.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Take a row back; what is written in it is stale from here on.

        Raises:
            RuntimeError: The row is not lent, so two owners may believe that it is theirs.
        """
        if slot not in self._lent:
            raise RuntimeError(f"cache slot {slot} was released but is not lent; release it once")
        self._lent.remove(slot)
        self._free.append(slot)
