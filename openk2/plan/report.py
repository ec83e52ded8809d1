"""A plan as a table for people and as JSON for machines.

In: a `Plan`. Out: text. Must not know: how any number is computed.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable
from typing import Any

from openk2.plan.facts import fact
from openk2.plan.memory import Memory
from openk2.plan.request import Plan

WIDTH = 79
"""Columns of a line: a terminal has 80."""

COMPONENTS = {
    "experts": "weights, routed experts",
    "weights": "weights, all others",
    "gradients": "gradients, FP32",
    "optimizer": "optimizer, FP32",
    "activations": "activations",
    "cache": "cache of latents",
    "buffers": "communication and other buffers",
    "runtime": "CUDA context and allocator",
}


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return the numbers of a plan for `json.dumps`, in bytes and seconds or as the key says."""
    return {
        "request": dataclasses.asdict(plan.request),
        "gpu": dataclasses.asdict(plan.request.device),
        "layout": list(plan.layout),
        "memory_bytes": {name: _components(memory) for name, memory in plan.phases.items()},
        "peak_bytes": plan.peak_bytes,
        "host_gb_per_node": plan.host_gb_per_node,
        "fits": plan.fits,
        "gpus_that_fit": plan.gpus_that_fit,
        "flows": [dataclasses.asdict(flow) for flow in plan.flows],
        "figures": {figure.key: figure.value for figure in plan.figures},
    }


def to_text(plan: Plan, model: str) -> str:
    """Return the report: verdict, layout, memory, communication, figures."""
    request = plan.request
    title = f"{request.task} {model} on {request.gpus} x {request.gpu.upper()}"
    blocks = [
        [*_wrapped(title, ""), *(line for words in _verdict(plan) for line in _wrapped(words, ""))],
        ["Layout / 并行方式", *(line for words in plan.layout for line in _wrapped(words))],
        ["Memory of the fullest GPU, GB / 单卡显存", *_memory(plan)],
        ["Sent by the busiest GPU in a step / 单卡每步通信", *_flows(plan)],
        ["Figures / 估算", *_figures(plan)],
        [
            *(_wrapped(_price(plan), "") if plan.fits else []),
            "Arithmetic, not a measurement; docs/concepts/plan.md says what it leaves out.",
            "以上为估算，并非实测。",
        ],
    ]
    return "\n\n".join("\n".join(block) for block in blocks)


def _price(plan: Plan) -> str:
    request, device = plan.request, plan.request.device
    price = f"Price: {request.price:.2f} USD per GPU-hour"
    if request.price != device.price_usd_per_hour:
        return f"{price}, as given."
    return f"{price}, an assumption ({device.price_source}); change it with --price-per-gpu-hour."


def _verdict(plan: Plan) -> list[str]:
    limit, peak = plan.request.device.memory_gb, plan.peak_bytes / 1e9
    if plan.fits:
        lines = [
            f"Fits: {peak:.1f} of {limit:g} GB on the fullest GPU.",
            f"可以放下：单卡最多占用 {peak:.1f} GB，显存 {limit:g} GB。",
        ]
        if plan.gpus_that_fit != plan.request.gpus:
            fewer = f"{plan.gpus_that_fit} GPU{'' if plan.gpus_that_fit == 1 else 's'}"
            lines.append(f"{fewer} would do. / {plan.gpus_that_fit} 张卡即可。")
        return lines
    if plan.fits_gpu:
        ram, has = plan.host_gb_per_node, fact("host_memory_gb_per_node")
        lines = [
            f"Does not fit: what is offloaded takes {ram:.0f} of {has:.0f} GB of a node's RAM.",
            f"放不下：每节点需要 {ram:.0f} GB 内存，只有 {has:.0f} GB。",
        ]
    else:
        lines = [
            f"Does not fit: {peak:.1f} of {limit:g} GB on the fullest GPU.",
            f"放不下：单卡需要 {peak:.1f} GB，显存只有 {limit:g} GB。",
        ]
    if plan.gpus_that_fit is None:
        lines.append(f"No number of GPUs fits with these settings; {_advice(plan)}.")
        lines.append("按当前设置，增加卡数也放不下。")
    else:
        lines.append(f"The smallest number that fits is {plan.gpus_that_fit}; or {_advice(plan)}.")
        lines.append(f"最少需要 {plan.gpus_that_fit} 张卡。")
    return lines


def _advice(plan: Plan) -> str:
    """Name the option that acts on the largest component that an option can shrink."""
    if plan.fits_gpu:
        return "lower --micro-batch, --context or --batch"
    phase = max(plan.phases.values(), key=lambda memory: memory.total)
    options = {"cache": "lower --batch or --context"}
    if plan.request.task != "serve":
        options["activations"] = "lower --micro-batch"
        if plan.request.recompute == "none":
            options["activations"] = "use --recompute report"
        if not plan.request.offload_optimizer:
            options["optimizer"] = "use --offload-optimizer"
    if plan.request.task != "train" and plan.request.form != "int4":
        options["experts"] = "use --format int4"
    sizes = {name: getattr(phase, name) for name in options}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    if not sizes or sizes[largest] == 0:
        return "take a GPU with more memory"
    return options[largest] + " or take a GPU with more memory"


def _memory(plan: Plan) -> list[str]:
    shown = [n for n in COMPONENTS if any(getattr(m, n) for m in plan.phases.values())]
    rows = [["", *plan.phases]] if len(plan.phases) > 1 else []
    for name in shown:
        values = [getattr(memory, name) / 1e9 for memory in plan.phases.values()]
        rows.append([COMPONENTS[name], *(f"{value:.2f}" for value in values)])
    rows.append(["total / 合计", *(f"{m.total / 1e9:.2f}" for m in plan.phases.values())])
    limit = plan.request.device.memory_gb
    rows.append(["of the GPU's / 显存", *(f"{limit:.2f}" for _ in plan.phases)])
    lines = _aligned(rows)
    if plan.host_gb_per_node:
        lines.append(
            f"  RAM of a node for what is offloaded / 每节点内存: {plan.host_gb_per_node:.0f} GB"
        )
    return lines


def _flows(plan: Plan) -> list[str]:
    rows = [["", "GB", "s at link rate"]]
    flows = [flow for flow in plan.flows if flow.sent_bytes]
    rows += [[f.label, _number(f.sent_bytes / 1e9), _number(f.link_seconds)] for f in flows]
    return _aligned(rows) if flows else ["  nothing / 无"]


def _figures(plan: Plan) -> list[str]:
    return _aligned([figure.label, _number(figure.value)] for figure in plan.figures)


def _aligned(rows: Iterable[list[str]]) -> list[str]:
    table = list(rows)
    width = max(_columns(row[0]) for row in table)
    lines = []
    for first, *others in table:
        padding = " " * (width - _columns(first))
        lines.append(f"  {first}{padding}" + "".join(f"  {cell:>10}" for cell in others))
    return [line.rstrip() for line in lines]


def _columns(text: str) -> int:
    return sum(2 if "\u2e80" <= letter <= "\uffef" else 1 for letter in text)


def _wrapped(words: str, indent: str = "  ") -> list[str]:
    # Chinese lines, two columns a letter, are written short enough; paths and names stay whole.
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _number(value: float) -> str:
    for unit, name in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:,.4g} {name}"
    if value == 0 or value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _components(memory: Memory) -> dict[str, float]:
    return {**dataclasses.asdict(memory), "total": memory.total}
