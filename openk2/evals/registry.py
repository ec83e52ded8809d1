"""Every benchmark by its name.

In: a name. Out: a `Benchmark`.
Must not know: what any of them measures. A new one is a module with `BENCHMARKS` and its line here.
"""

from __future__ import annotations

from openk2.evals import (
    ace_agent,
    acebench,
    apibank,
    bbh,
    bfcl,
    bfcl_multi_turn,
    choice,
    gsm8k,
    horizon,
    humaneval,
    ifeval,
    mbpp,
    needle,
    nestful,
    next_call,
    sealtools,
    tau2,
    when2call,
    worlds,
)
from openk2.evals.benchmark import Benchmark

ALL: tuple[Benchmark, ...] = (
    *bfcl.BENCHMARKS,
    *bfcl_multi_turn.BENCHMARKS,
    *acebench.BENCHMARKS,
    *ace_agent.BENCHMARKS,
    *when2call.BENCHMARKS,
    *nestful.BENCHMARKS,
    *sealtools.BENCHMARKS,
    *apibank.BENCHMARKS,
    *tau2.BENCHMARKS,
    *next_call.BENCHMARKS,
    *gsm8k.BENCHMARKS,
    *bbh.BENCHMARKS,
    *choice.BENCHMARKS,
    *humaneval.BENCHMARKS,
    *mbpp.BENCHMARKS,
    *ifeval.BENCHMARKS,
    *needle.BENCHMARKS,
    *horizon.BENCHMARKS,
    *worlds.BENCHMARKS,
)


def find(name: str) -> Benchmark:
    """Return the benchmark of this name.

    Raises:
        ValueError: There is none; the message names those that there are.
    """
    for benchmark in ALL:
        if benchmark.name == name:
            return benchmark
    names = ", ".join(benchmark.name for benchmark in ALL)
    raise ValueError(f"there is no benchmark {name!r}; there are {names}")
