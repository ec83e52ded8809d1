"""llama.cpp and transformers as contenders of the engine's benchmark, and the memory itself.

In: a model file or directory and a thread count. Out: seconds that some tokens took.
Must not know: rounds, goals, or our own engine. Every contender is made in a process of its own.

A contender has `load`, and those of `decode`, `prefill` and `streams` that it is asked for; each
returns the seconds of its timed part, and `facts` says how it was set up.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

CONTEXT = 4096
UBATCH = 512
"""llama.cpp's own default: prompt tokens that go through the layers together."""
LATEST_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8")


def quiet_llama_cpp() -> Any:
    """Import the binding and switch its log off."""
    # Only the peers extra brings it, so a check without it must pass as well.
    import llama_cpp  # pyright: ignore[reportMissingImports]

    llama_cpp.llama_log_set(_SILENT, ctypes.c_void_p(0))
    return llama_cpp


@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
def _SILENT(level: int, text: bytes, data: object) -> None:
    """Drop a line of llama.cpp's log."""


class LlamaCpp:
    """llama.cpp through its C interface: random tokens in, no sampling, as llama-bench does it.

    `streams` puts one token of every sequence into one batch, which is what llama-server's slots
    come to, without its HTTP server, sampling and scheduling: generous to the peer.
    """

    def load(self, path: Path, threads: int) -> None:
        """Open a GGUF file with llama.cpp's defaults but for the sizes."""
        self._lib = lib = quiet_llama_cpp()
        lib.llama_backend_init()
        self._model = lib.llama_model_load_from_file(
            str(path).encode(), lib.llama_model_default_params()
        )
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot open {path}")
        self._threads, self._path = threads, path
        self._vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self._model))
        self._sequences, self._context = 0, None
        self._batch = lib.llama_batch_init(CONTEXT, 0, 1)
        self._random = random.Random(0)

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured."""
        info = self._lib.llama_print_system_info().decode().strip(" |")
        return {
            "file": self._path.name,
            "system_info": info,
            "build": build_note(info),
            "n_ubatch": UBATCH,
            "cache": "f16",
            "flash_attention": "auto, which is on: faster than off in every row here",
        }

    def decode(self, tokens: int) -> float:
        """Feed random tokens one at a time, each after the ones before."""
        return self.streams(1, tokens)

    def prefill(self, tokens: int) -> float:
        """Read a random prompt; logits of its last token only."""
        self._prepare(1)
        rows = [(self._token(), position, 0) for position in range(tokens)]
        began = time.perf_counter()
        self._step(rows)
        return time.perf_counter() - began

    def streams(self, streams: int, tokens: int) -> float:
        """Feed one random token to every sequence, `tokens` times."""
        self._prepare(streams)
        began = time.perf_counter()
        for position in range(tokens):
            self._step([(self._token(), position, s) for s in range(streams)], logits_of_all=True)
        return time.perf_counter() - began

    def _prepare(self, sequences: int) -> None:
        lib = self._lib
        if sequences != self._sequences:
            if self._context:
                lib.llama_free(self._context)
            settings = lib.llama_context_default_params()
            settings.n_ctx = CONTEXT if sequences == 1 else sequences * 256
            settings.n_batch, settings.n_ubatch = CONTEXT, UBATCH
            settings.n_seq_max = sequences
            settings.n_threads = settings.n_threads_batch = self._threads
            self._context = lib.llama_init_from_model(self._model, settings)
            self._sequences = sequences
        lib.llama_memory_clear(lib.llama_get_memory(self._context), False)

    def _token(self) -> int:
        return int(self._random.random() * self._vocab)

    def _step(self, rows: Sequence[tuple[int, int, int]], logits_of_all: bool = False) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (token, position, sequence) in enumerate(rows):
            batch.token[row] = token
            batch.pos[row] = position
            batch.n_seq_id[row] = 1
            batch.seq_id[row][0] = sequence
            batch.logits[row] = logits_of_all
        batch.logits[len(rows) - 1] = True
        if failed := self._lib.llama_decode(self._context, batch):
            raise RuntimeError(f"llama_decode returned {failed}")
        self._lib.llama_synchronize(self._context)


def build_note(system_info: str) -> str:
    """Say whether a build of llama.cpp uses what this processor has."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    has = next((line.split() for line in lines if line.startswith("flags")), [])
    enabled = {word.strip().lower() for word in system_info.replace("=", "|").split("|")}
    names = {"avx512f": "avx512"}
    missing = [f for f in LATEST_FLAGS if f in has and names.get(f, f) not in enabled]
    if not missing:
        return "native: it uses every instruction set of this processor that it knows of"
    return (
        f"not native, it leaves out {', '.join(missing)}: install it again with CMAKE_ARGS="
        "-DGGML_NATIVE=ON pip install --no-binary llama-cpp-python --force-reinstall "
        "llama-cpp-python"
    )


class Transformers:
    """transformers' DeepseekV3ForCausalLM in its fastest setting: own loop, no `generate`.

    Eager runs over a growing cache; compiled over a static one. Number format and experts'
    implementation are tried at the start and the fastest is kept.
    """

    EXPERTS = ("eager", "batched_mm", "grouped_mm")

    def __init__(self, compiled: bool) -> None:
        """Choose `torch.compile`."""
        self._compiled = compiled

    def load(self, path: Path, threads: int) -> None:
        """Open a BF16 directory and settle on a number format and an implementation."""
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._generator = torch.Generator().manual_seed(0)
        self._model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()
        self._tried: dict[str, float] = {}
        best = max(
            (self._speed(dtype, experts), dtype, experts)
            for dtype in ("bfloat16", "float32")
            for experts in self.EXPERTS
        )
        if self._compiled:
            experts = ("batched_mm", "grouped_mm")  # the eager one loops over what was routed
            best = max((self._compiled_speed(best[1], e), best[1], e) for e in experts)
        self._choose(*best[1:])
        self._choice = " ".join(best[1:])

    @property
    def facts(self) -> dict[str, Any]:
        """What was chosen, and how fast the others were in the trial."""
        return {"choice": self._choice, "trial_tokens_per_s": self._tried}

    def decode(self, tokens: int) -> float:
        """Feed random tokens one at a time."""
        with self._torch.inference_mode():
            return self._decode_compiled(tokens) if self._compiled else self._decode_eager(tokens)

    def _decode_eager(self, tokens: int) -> float:
        from transformers import DynamicCache

        ids_T = self._ids(tokens)
        cache = DynamicCache(config=self._model.config)
        began = time.perf_counter()
        for ids in ids_T:
            self._model(ids.view(1, 1), past_key_values=cache, logits_to_keep=1)
        return time.perf_counter() - began

    def _decode_compiled(self, tokens: int) -> float:
        ids_T = self._ids(tokens)
        self._static.reset()
        positions_T = self._torch.arange(tokens)
        began = time.perf_counter()
        for ids, position in zip(ids_T, positions_T, strict=True):
            self._step(
                ids.view(1, 1), past_key_values=self._static, position_ids=position.view(1, 1)
            )
        return time.perf_counter() - began

    def _ids(self, tokens: int) -> Any:
        vocab = self._model.config.vocab_size
        return self._torch.randint(0, vocab, (tokens,), generator=self._generator)

    def _choose(self, dtype: str, experts: str) -> None:
        self._model.to(getattr(self._torch, dtype))  # from bfloat16 to float32 and back is exact
        self._model.set_experts_implementation(experts)

    def _speed(self, dtype: str, experts: str, tokens: int = 8) -> float:
        self._choose(dtype, experts)
        with self._torch.inference_mode():
            self._decode_eager(2)
            speed = tokens / self._decode_eager(tokens)
        self._tried[f"{dtype} {experts}"] = round(speed, 1)
        return speed

    def _compiled_speed(self, dtype: str, experts: str, tokens: int = 16) -> float:
        from transformers import StaticCache

        self._choose(dtype, experts)
        self._torch.compiler.reset()
        self._static = StaticCache(config=self._model.config, max_cache_len=256)
        self._step = self._torch.compile(self._model.forward)
        with self._torch.inference_mode():
            self._decode_compiled(4)
            speed = tokens / self._decode_compiled(tokens)
        self._tried[f"compiled {dtype} {experts}"] = round(speed, 1)
        return speed


class Bandwidth:
    """What the memory gives: every thread sums its part of one GiB; a "token" is a byte."""

    BYTES = 1 << 30
    facts: dict[str, Any] = {"bytes": BYTES}  # noqa: RUF012

    def load(self, path: Path, threads: int) -> None:
        """Fill the memory and compile the loop; `path` is not read."""
        from concurrent.futures import ThreadPoolExecutor

        import numpy as np

        self._parts = np.array_split(np.ones(self.BYTES // 8, np.int64), threads)
        self._pool = ThreadPoolExecutor(threads)
        self._sum = _compiled_sum()
        self._sum(self._parts[0][:16])

    def decode(self, tokens: int) -> float:
        """Read everything once, whatever `tokens` says."""
        began = time.perf_counter()
        total = sum(self._pool.map(self._sum, self._parts))
        seconds = time.perf_counter() - began
        assert total == self.BYTES // 8, total
        return seconds


def _compiled_sum() -> Callable[[Any], int]:
    from numba import njit

    @njit(nogil=True)
    def total(values):  # noqa: ANN001, ANN202
        result = 0
        for value in values:
            result += value
        return result

    return total
