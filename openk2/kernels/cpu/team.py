"""Threads that compute one step together, and step aside when the cores are wanted elsewhere.

In: a compiled function that every thread runs. Out: the number of threads that ran it. Helpers
spin for a moment after a step, because the next one follows at once, and then sleep; a step never
waits for a sleeping helper but goes on without it. If a thread loses its core in the middle of a
step, the others notice that they wait, and the next steps are run by one thread alone for a while.
Must not know: what is computed.

Control memory: words of 64 bytes each, so that no two of them share a cache line.
"""

from __future__ import annotations

from openk2.kernels.cpu.memory import (
    atomic_add,
    atomic_read,
    atomic_write,
    clock,
    compare_and_swap,
    compiled,
    pause,
    read_i64,
    write_i64,
)

WORD = 64
ARRIVED, GENERATION, STALLED, SLOTS = 0, WORD, 2 * WORD, 3 * WORD
"""Offsets in the control memory; each helper has a slot of one word."""
ASLEEP, READY, TAKEN, GO = 0, 1, 2, 3
"""States of a helper, the first number of its slot; its thread number and their count follow."""
BEAT = 24
"""Offset in a slot of the time when the helper last said that it waits."""
FRESH_CYCLES = 50_000
LIMIT = STALLED + 8
"""Offset of how many cycles of waiting at a barrier mean that somebody lost its core."""
STALL_CYCLES, STALL_CYCLES_PER_TOKEN = 1_000_000, 20_000
"""That is 0.2 to 0.5 ms for one token; in larger batches shares differ by more."""
PATIENCE_CYCLES = 5_000_000
"""How long a helper spins for the next step."""


@compiled
def barrier(control, threads):
    """Wait until all threads are here."""
    if threads == 1:
        return
    generation = atomic_read(control + GENERATION)
    if atomic_add(control + ARRIVED, 1) == threads - 1:
        atomic_write(control + ARRIVED, 0)
        atomic_write(control + GENERATION, generation + 1)
        return
    for _ in range(200):
        if atomic_read(control + GENERATION) != generation:
            return
    since = clock()
    while atomic_read(control + GENERATION) == generation:
        pause()
    if clock() - since > read_i64(control + LIMIT):
        atomic_write(control + STALLED, 1)


@compiled
def gather(control, helpers):
    """Take the helpers that are ready and return the number of threads, this one included."""
    threads = 1
    for helper in range(helpers):
        slot = control + SLOTS + WORD * helper
        # One that has lost its core is ready, too, but does not say so any more.
        if clock() - read_i64(slot + BEAT) < FRESH_CYCLES and compare_and_swap(slot, READY, TAKEN):
            write_i64(slot + 8, threads)
            threads += 1
    for helper in range(helpers):
        slot = control + SLOTS + WORD * helper
        if read_i64(slot) == TAKEN:
            write_i64(slot + 16, threads)
            atomic_write(slot, GO)
    return threads


@compiled
def await_go(slot):
    """Spin until the helper of this slot may go; false if it lost patience and is asleep now."""
    compare_and_swap(slot, ASLEEP, READY)
    since = clock()
    while atomic_read(slot) != GO:
        write_i64(slot + BEAT, clock())
        pause()
        if clock() - since > PATIENCE_CYCLES and compare_and_swap(slot, READY, ASLEEP):
            return False
    return True
