"""`openk2 plan`.

In: a model's shape, a task and GPUs. Out: the plan, for people or as JSON.
Must not know: how anything is computed.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from openk2.cli.tree import app, fail

# What does not fit here -------------------------------------------------------------------------


PlanModelOption = Annotated[
    str, typer.Option("--model", help="nano, small, k2, a model directory or its config.json.")
]
TaskOption = Annotated[
    Literal["train", "serve", "rl"],
    typer.Option(help="What the GPUs are for; rl trains and serves on the same ones in turn."),
]
GpuOption = Annotated[Literal["h800", "h100", "h200", "b200"], typer.Option(help="Which GPU.")]
FormatOption = Annotated[
    Literal["bf16", "fp8", "int4"],
    typer.Option("--format", help="Weights that are served; training is in BF16."),
]
PlanContextOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Tokens of a sequence.", show_default="train 4096, rl 16384, serve 32768"
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Sequences of a training step, or at the same time in one engine.",
        show_default="train 2^26 tokens, else 16, rl at least 1 a GPU",
    ),
]
MicroBatchOption = Annotated[
    int, typer.Option(min=1, help="Sequences that a rank trains on in one pass.")
]
RecomputeOption = Annotated[
    Literal["report", "none"],
    typer.Option(
        help="report: computed again, kept in FP8 or sent to RAM as in K2. none: all kept in BF16."
    ),
]
OffloadOption = Annotated[
    bool, typer.Option("--offload-optimizer", help="Keep optimizer states in the node's RAM.")
]
PipelineOption = Annotated[
    int | None, typer.Option(min=1, help="Pipeline stages.", show_default="16, small models 1")
]
ExpertsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Ranks that share experts in training.", show_default="16, small models 1"
    ),
]
EngineGpusOption = Annotated[
    int | None, typer.Option(min=1, help="GPUs of one engine.", show_default="the fewest that fit")
]
AttentionOption = Annotated[
    Literal["tp", "dp"] | None,
    typer.Option(
        help="tp: heads are divided over an engine. dp: every GPU has answers of its own.",
        show_default="the faster that fits",
    ),
]
MfuOption = Annotated[
    float,
    typer.Option(
        min=0.01, max=1, help="Share of peak FLOPs; DeepSeek-V3's hours make 0.39, with FP8."
    ),
]
BandwidthOption = Annotated[
    float, typer.Option(min=0.01, max=1, help="Share of memory bandwidth that decoding reaches.")
]
PriceOption = Annotated[
    float | None,
    typer.Option(min=0, help="USD.", show_default="H800 2, H100 3, H200 4, B200 5.25, assumed"),
]
TokensOption = Annotated[
    float | None,
    typer.Option(
        min=1, max=1e18, help="Tokens of the whole run.", show_default="train 15.5e12, as K2"
    ),
]


@app.command()
def plan(
    task: TaskOption,
    gpus: Annotated[int, typer.Option(min=1, help="How many GPUs.")],
    gpu: GpuOption = "h800",
    model: PlanModelOption = "k2",
    form: FormatOption = "fp8",
    context: PlanContextOption = None,
    batch: BatchOption = None,
    micro_batch: MicroBatchOption = 1,
    recompute: RecomputeOption = "report",
    offload_optimizer: OffloadOption = False,
    pp: PipelineOption = None,
    ep: ExpertsOption = None,
    engine_gpus: EngineGpusOption = None,
    attention: AttentionOption = None,
    mfu: MfuOption = 0.30,
    bandwidth_utilisation: BandwidthOption = 0.60,
    price_per_gpu_hour: PriceOption = None,
    tokens: TokensOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the numbers as JSON.")] = False,
) -> None:
    """Compute the GPUs, time and money a model needs.

    For example: openk2 plan --model k2 --task train --gpus 256 --gpu h800
    """
    from openk2.plan import report
    from openk2.plan.plan import make, read_model
    from openk2.plan.request import Request

    request = Request(
        task=task,
        gpus=gpus,
        gpu=gpu,
        form=form,
        context=context or 0,
        batch=batch or 0,
        micro_batch=micro_batch,
        recompute=recompute,
        offload_optimizer=offload_optimizer,
        pipeline=pp,
        experts=ep,
        engine=engine_gpus,
        attention=attention,
        mfu=mfu,
        bandwidth_utilisation=bandwidth_utilisation,
        price_usd_per_hour=price_per_gpu_hour,
        tokens=tokens or 0.0,
    )
    try:
        found = make(read_model(model), request)
    except (OSError, ValueError) as error:
        fail(str(error))
    if as_json:
        typer.echo(json.dumps(report.to_dict(found), allow_nan=False))
    else:
        typer.echo(report.to_text(found, model))
