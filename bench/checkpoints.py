"""Time and memory to the first token of directories of 2-4 GB, beside the tools that load them too.

In: nothing; it writes a BF16, an FP8 and an INT4 directory of random weights, and the GGUF files
of two of them, under --dir. Out: bench/records/checkpoints.json. Every measurement is a process of
its own; files are in the page cache for everybody; peers take turns.

    python -m bench.checkpoints --dir /tmp/openk2-checkpoints
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from bench import record

ROUNDS = 2
PROMPT = tuple(range(300, 316))
THREADS = 1
"""One, so that a second core that other work takes away slows nobody down."""
EXPERTS = {"bf16": 64, "fp8": 128, "int4": 224}
"""Routed experts per layer, so that each format takes 2-4 GB."""
PEERS = {
    "bf16": ("openk2", "transformers", "llama.cpp"),
    "fp8": ("openk2", "transformers"),
    "int4": ("openk2", "transformers", "llama.cpp"),
}
GGUF: dict[str, Literal["f16", "q4_0"]] = {"bf16": "f16", "int4": "q4_0"}


def main() -> None:
    """Make what is missing, measure every pair and write the record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="Where 13 GB of files may lie.")
    parser.add_argument("--child", nargs=2, metavar=("PEER", "FORM"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        peer, form = options.child
        print(json.dumps(MEASURE[peer](options.dir / form)))
        return
    result: dict[str, Any] = {"rounds": ROUNDS, "prompt_tokens": len(PROMPT), "threads": THREADS}
    for form in EXPERTS:
        make(options.dir / form, form)
        result[form] = compare(options.dir, form)
        print(form, json.dumps(result[form], indent=1), flush=True)
    path = record.write("checkpoints", "python -m bench.checkpoints --dir DIR", result)
    print(path)


def compare(directory: Path, form: str) -> dict[str, Any]:
    """Measure all peers on one form in turn; medians, and what each takes beside ours."""
    runs: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS[form]}
    refusals: dict[str, str] = {}
    for _ in range(ROUNDS):
        for peer in (peer for peer in runs if peer not in refusals):
            warm(directory, peer, form)
            done = child(directory, peer, form)
            if isinstance(done, str):
                refusals[peer] = done
            else:
                runs[peer].append(done)
    size = sum(f.stat().st_size for f in (directory / form).glob("*.safetensors"))
    found: dict[str, Any] = {"bytes_on_disk": size}
    for peer, measured in runs.items():
        if peer in refusals:
            found[peer] = {"refuses": refusals[peer]}
            continue
        found[peer] = {
            key: round(statistics.median(m[key] for m in measured), 3) for key in measured[0]
        }
        ours = found["openk2"]["first_token_s"] if "openk2" in found else None
        if peer != "openk2" and ours:
            found[peer]["first_token_times_ours"] = round(found[peer]["first_token_s"] / ours, 2)
    return found


def warm(directory: Path, peer: str, form: str) -> None:
    """Read the files that a peer will read, so that none of them waits for the disk."""
    gguf = peer == "llama.cpp"
    files = [Path(f"{directory / form}.gguf")] if gguf else (directory / form).glob("*.safetensors")
    buffer = bytearray(1 << 24)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def child(directory: Path, peer: str, form: str) -> dict[str, float] | str:
    """Run one measurement in a fresh process; its last line of complaint if it fails."""
    command = [sys.executable, "-m", "bench.checkpoints", "--dir", str(directory)]
    done = subprocess.run(
        [*command, "--child", peer, form],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
    return json.loads(done.stdout.strip().splitlines()[-1])


# One measurement --------------------------------------------------------------------------------


def measure_openk2(directory: Path) -> dict[str, float]:
    """Load with our engine and generate one token."""
    from openk2.cli.tree import share_cores

    share_cores()  # as `openk2 serve` does
    from openk2.engine.loading import load_engine
    from openk2.model.checkpoint import Checkpoint
    from openk2.types import Sampling

    base = rss()
    began = time.perf_counter()
    loaded = load_engine(
        directory,
        stop_ids=frozenset(),
        vocab_size=8192,
        max_batch=1,
        context=512,
        weights="mapped",
    )
    ready = time.perf_counter()
    next(loaded.engine.generate(PROMPT, Sampling(0, max_tokens=2)))
    first = time.perf_counter()
    touched = touched_bytes(Checkpoint(directory), loaded.engine._runner.model)  # pyright: ignore
    return timing(began, ready, first, base) | {
        "bytes_of_tensors_used": touched,
        "resident_bytes_of_the_files": resident(directory),
    }


def touched_bytes(checkpoint: Any, model: Any) -> int:
    """Add up the tensors that every token needs and the experts that some token was routed to."""
    opened = {
        f"model.layers.{index}.mlp.experts.{expert}."
        for index, layer in enumerate(model.layers)
        if not layer.is_dense
        for expert in layer.mlp._opened
    }
    return sum(
        entry.nbytes
        for name, entry in checkpoint.entries.items()
        if ".experts." not in name
        or name[: name.index(".", name.index(".experts.") + 9) + 1] in opened
    )


def measure_transformers(directory: Path) -> dict[str, float]:
    """Load with transformers and generate one token."""
    import torch
    from transformers import AutoModelForCausalLM

    base = rss()
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(directory, dtype="auto")
    ready = time.perf_counter()
    with torch.inference_mode():
        int(model(torch.tensor([PROMPT])).logits[0, -1].argmax())
    return timing(began, ready, time.perf_counter(), base)


def measure_llama_cpp(directory: Path) -> dict[str, float]:
    """Load the GGUF file of the directory with llama.cpp and generate one token."""
    # Only the peers extra brings it, so a check without it must pass as well.
    import llama_cpp  # pyright: ignore[reportMissingImports]
    import numpy

    base = rss()
    began = time.perf_counter()
    model = llama_cpp.Llama(
        str(directory) + ".gguf",
        n_ctx=512,
        n_threads=THREADS,
        n_threads_batch=THREADS,
        verbose=False,
        logits_all=False,
    )
    ready = time.perf_counter()
    model.eval(PROMPT)
    int(numpy.argmax(model._ctx.get_logits()[: model.n_vocab()]))
    return timing(began, ready, time.perf_counter(), base)


MEASURE = {
    "openk2": measure_openk2,
    "transformers": measure_transformers,
    "llama.cpp": measure_llama_cpp,
}


def timing(began: float, ready: float, first: float, base: int) -> dict[str, float]:
    """Name the times since the load began, and the memory beyond what the imports took."""
    return {
        "load_s": ready - began,
        "first_token_s": first - began,
        "peak_rss_bytes": peak_rss(),
        "peak_rss_beyond_imports_bytes": peak_rss() - base,
    }


def resident(directory: Path) -> int:
    """Return how much of a directory's mapped files is resident in this process."""
    total, inside = 0, False
    for line in Path("/proc/self/smaps").read_text("utf-8").splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            inside = str(directory.resolve()) in line
        elif inside and words[0] == "Rss:":
            total += int(words[1]) * 1024
    return total


def rss() -> int:
    """Return the resident bytes of this process."""
    return _status("VmRSS")


def peak_rss() -> int:
    """Return the most bytes that were resident."""
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(key)]
    return int(line.split()[1]) * 1024


# Files ------------------------------------------------------------------------------------------


def make(directory: Path, form: str) -> None:
    """Write a directory of one form, and its GGUF file, unless they are there."""
    from openk2.export.gguf import export_gguf
    from openk2.export.hf import export_hf

    if not (directory / "config.json").exists():
        source = directory if form == "bf16" else directory.with_name(f"{form}-source")
        write_source(source, shape(form))
        if form != "bf16":
            export_hf(source, directory, format=cast(Any, form), shard_bytes=10**9)
            shutil.rmtree(source)
    gguf = Path(f"{directory}.gguf")
    if form in GGUF and not gguf.exists():
        export_gguf(directory, gguf, format=GGUF[form])


def write_source(directory: Path, config: Any) -> None:
    """Write random bfloat16 weights, a file a layer."""
    import torch
    from safetensors.torch import save_file

    from openk2.model.names import published_shapes

    directory.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    shards: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, sides in published_shapes(config).items():
        layer = name.split(".")[2] if ".layers." in name else "rest"
        shards.setdefault(f"model-{layer}.safetensors", {})[name] = sides
    for file, shapes in shards.items():
        state = {
            name: torch.ones(sides) if "norm" in name else torch.randn(sides).mul_(0.02)
            for name, sides in shapes.items()
        }
        save_file(
            {name: weight.bfloat16() for name, weight in state.items()},
            directory / file,
            metadata={"format": "pt"},
        )
    index = {name: file for file, shapes in shards.items() for name in shapes}
    document = {"metadata": {}, "weight_map": index}
    (directory / "model.safetensors.index.json").write_text(json.dumps(document), "utf-8")
    settings = {**config.to_dict(), "torch_dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(settings), "utf-8")
    for name in ("tiktoken.model", "tokenizer_config.json"):
        shutil.copy(Path("openk2/assets/nano") / name, directory)


def shape(form: str) -> Any:
    """Return the shape of a form's directory."""
    from openk2.model.config import preset

    return replace(
        preset("nano"),
        hidden_size=1024,
        intermediate_size=4096,
        moe_intermediate_size=512,
        num_hidden_layers=15,
        num_attention_heads=16,
        n_routed_experts=EXPERTS[form],
        num_experts_per_tok=8,
        q_lora_rank=512,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        # Whole FP8 blocks everywhere: transformers cannot read partial ones.
        qk_rope_head_dim=128 if form == "fp8" else 32,
        v_head_dim=64,
    )


if __name__ == "__main__":
    main()
