"""`openk2 rl`: reinforcement learning.

In: a TOML file, overrides, perhaps another model as judge. Out: a run, its last numbers, an exit
status. Must not know: how a model learns from rewards.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from openk2.cli.endpoint import Endpoint, open_model
from openk2.cli.training import EXIT_CODES, FreshOption, JsonOption, SetOption
from openk2.cli.tree import app, fail, share_cores

if TYPE_CHECKING:
    from openk2.rl.view import View

ConfigArgument = Annotated[
    Path | None, typer.Argument(help="TOML file of the run, as configs/rl-nano.toml.")
]
JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge-base-url",
        metavar="URL",
        help="Endpoint, up to /v1, of the model that judges answers without a verifier.",
        show_default="the policy judges itself",
    ),
]
JudgeModelOption = Annotated[
    str | None,
    typer.Option(
        "--judge-model",
        metavar="NAME",
        help="Which model judges at --judge-base-url.",
        show_default="the endpoint's first",
    ),
]
JudgeKeyOption = Annotated[
    str,
    typer.Option("--judge-key-env", metavar="NAME", help="Environment variable with its key."),
]
WorkersOption = Annotated[
    int,
    typer.Option(min=0, help="Processes that play episodes; the result is the same. 0: this one."),
]
RayOption = Annotated[
    str | None,
    typer.Option("--ray", metavar="ADDRESS", help="Play on a Ray cluster; `local` starts one."),
]
ListOption = Annotated[bool, typer.Option("--list", help="Show the families and end.")]


@app.command("rl")
def reinforce(
    config: ConfigArgument = None,
    overrides: SetOption = None,
    judge_base_url: JudgeOption = None,
    judge_model: JudgeModelOption = None,
    judge_key_env: JudgeKeyOption = "OPENAI_API_KEY",
    workers: WorkersOption = 0,
    ray: RayOption = None,
    fresh: FreshOption = False,
    list_them: ListOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a model practise what can be checked, and learn from how well it did.

    Each iteration draws problems from the families of the config, lets the model try each of them
    several times, scores the episodes, and makes those more likely that did better than the other
    tries at the same problem. Families without a verifier are judged by the model itself, pair by
    pair, or by the model at --judge-base-url.

    \b
    openk2 rl --list                                        which families there are
    openk2 rl configs/rl-nano.toml                          teach the shipped model
    openk2 rl configs/rl-nano.toml --set iterations=5       a short look
    openk2 rl configs/rl-nano.toml --set ptx_rows=0         without text beside the rewards

    OUT/metrics.jsonl has a row per iteration, OUT/episodes.jsonl what was said and what it earned,
    OUT/metrics.png the curves, OUT/model the result. An interrupted run goes on with the same
    command, with the same episodes as if it had not been interrupted.
    """  # noqa: D301 - the control character keeps lines apart
    if list_them:
        _show(as_json=as_json)
        return
    if config is None:
        fail("say what to practise: openk2 rl configs/rl-nano.toml; --list shows the families.")
    judge = (
        None
        if judge_base_url is None
        else Endpoint(judge_base_url, judge_model, judge_key_env, "openai", None, None)
    )
    _run(config, overrides or [], judge, workers, ray, fresh=fresh, as_json=as_json)


def _run(
    path: Path,
    overrides: list[str],
    judge: Endpoint | None,
    workers: int,
    ray: str | None,
    *,
    fresh: bool,
    as_json: bool,
) -> None:
    share_cores()
    from openk2 import config as settings
    from openk2.agent.model import ModelError
    from openk2.rl.config import RlConfig
    from openk2.rl.loop import run
    from openk2.rl.stage import Players
    from openk2.rl.workers import WorkersError
    from openk2.train import shards
    from openk2.train.heap import keep_heap

    keep_heap()
    try:
        config = settings.load(RlConfig, path, overrides)
        if config.ptx_rows and config.data is not None:
            shards.prepare(config.data, lambda line: typer.echo(line, err=True))
        result = run(
            config,
            resume=not fresh,
            view=_view(),
            judge=None if judge is None else partial(open_model, judge),
            players=Players(workers, ray),
        )
    except ModuleNotFoundError as error:
        _missing(error)
    except (OSError, ValueError, FloatingPointError, ModelError, WorkersError) as error:
        fail(f"{path}: {error}")
    if as_json:
        typer.echo(json.dumps({"reason": result.reason, **result.metrics}))
    else:
        typer.echo(f"{result.reason} at iteration {result.step}; see {config.out}/metrics.png")
        if result.reason != "finished":
            typer.echo("type the same command again to go on")
    if result.reason != "finished":  # or a script would go on with half a model
        raise typer.Exit(EXIT_CODES[result.reason])


def _missing(error: ModuleNotFoundError) -> NoReturn:
    extra = "scale" if error.name == "ray" else "train"
    fail(f"{error.name} is not installed: pip install 'openk2[{extra}]'.")


def _view() -> View:
    """Draw on a terminal; write lines anywhere else."""
    from openk2.rl.view import Dashboard, LineView

    if not sys.stderr.isatty():
        return LineView(lambda line: typer.echo(line, err=True))
    from rich.console import Console

    return Dashboard(Console(stderr=True))


def _show(*, as_json: bool) -> None:
    from openk2.gym.registry import FAMILIES

    for make in FAMILIES.values():
        family = make()
        if as_json:
            about = {"name": family.name, "about": family.about, "about_zh": family.about_zh}
            typer.echo(json.dumps(about, ensure_ascii=False))
        else:
            typer.echo(f"{family.name:<20} {family.about}")
            typer.echo(f"{'':<20} {family.about_zh}")
