"""What people and machines read: the table, the JSON, the advice, the command."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openk2.cli import app
from openk2.model.config import preset
from openk2.plan import facts, plan, report
from openk2.plan.facts import PlanError
from openk2.plan.request import Request, filled

NANO = str(Path(__file__).parents[2] / "openk2" / "assets" / "nano")


def run(*arguments: str):
    return CliRunner().invoke(app, ["plan", *arguments])


@pytest.mark.parametrize("task", ["train", "serve", "rl"])
def test_the_table_and_the_json_show_the_same_numbers(k2, task):
    found = plan.make(k2, Request(task, 256, "h200"))
    text, values = report.to_text(found, "k2"), json.loads(json.dumps(report.to_dict(found)))
    for memory in values["memory_bytes"].values():
        parts = sum(value for name, value in memory.items() if name != "total")
        assert memory["total"] == pytest.approx(parts)
        assert f"{memory['total'] / 1e9:.2f}" in text
        for name, value in memory.items():
            assert value == 0 or f"{value / 1e9:.2f}" in text, name
    assert set(values["figures"]) == {figure.key for figure in found.figures}
    assert all(figure.label in text for figure in found.figures)
    assert values["fits"] is True
    assert "Fits" in text and "可以放下" in text


def test_no_line_of_the_table_is_wider_than_a_terminal(k2):
    for task in ("train", "serve", "rl"):
        text = report.to_text(plan.make(k2, Request(task, 256)), "k2")
        assert max(map(report._columns, text.splitlines())) <= 79


@pytest.mark.parametrize(
    "request_",
    [
        Request("serve", 8),
        Request("serve", 47),
        Request("rl", 256),
        Request("rl", 256, "b200", context=65_536),
        Request("train", 2048, "h200", recompute="none"),
    ],
)
def test_advice_fits_a_terminal_too(k2, census, request_):
    found = plan._task(k2, census, filled(k2, request_))
    for smallest in (None, 1, 12_345):
        text = report.to_text(replace(found, gpus_that_fit=smallest), "k2")
        assert max(map(report._columns, text.splitlines())) <= 79


def test_what_does_not_fit_has_neither_speed_nor_price(k2):
    found = plan.make(k2, Request("serve", 8))
    assert not found.fits
    assert {figure.key for figure in found.figures} == {
        *("parameters", "active_parameters", "bf16_gb", "fp8_gb", "int4_gb")
    }
    text = report.to_text(found, "k2")
    assert "USD" not in text and "tokens/s" not in text


@pytest.mark.parametrize(
    ("request_", "advice", "smallest"),
    [
        (Request("train", 256, recompute="none"), "--recompute report", None),
        (Request("serve", 8), "--format int4", 24),
        (Request("serve", 8, context=131_072, batch=512), "--batch or --context", 104),
        (Request("rl", 256), "--offload-optimizer", 512),
        (Request("rl", 256, "b200", context=65_536), "--micro-batch, --context", None),
    ],
)
def test_what_does_not_fit_comes_with_what_would(k2, request_, advice, smallest):
    found = plan.make(k2, request_)
    assert not found.fits
    text = report.to_text(found, "k2")
    assert "Does not fit" in text and "放不下" in text
    assert advice in text
    assert found.gpus_that_fit == smallest
    if smallest is not None:
        assert plan.make(k2, replace(request_, gpus=smallest)).fits
        assert f"smallest number that fits is {smallest}" in text


def test_a_plan_that_fits_names_a_smaller_one(k2):
    found = plan.make(k2, Request("train", 2048))
    assert found.gpus_that_fit == 256
    assert "256 GPUs would do" in report.to_text(found, "k2")


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Request("train", 100), "100 GPUs are not a multiple of"),
        (Request("train", 1), "1 GPU is not a multiple of"),
        (Request("serve", 1, engine=2), "1 GPU is not a multiple of"),
        (Request("train", 100), "give --gpus 256,"),
        (Request("train", 256, experts=10**12), "give --ep 384"),
        (
            Request("train", 256, tokens=math.inf),
            "--tokens inf is out of range; give at most 1e+18",
        ),
        (Request("train", 256, tokens=math.nan), "--tokens nan"),
        (Request("train", 256, mfu=math.nan), "--mfu nan"),
        (Request("serve", 16, bandwidth_utilisation=math.nan), "--bandwidth-utilisation nan"),
        (Request("serve", 16, price_usd_per_hour=math.inf), "--price-per-gpu-hour inf"),
        (Request("serve", 10**12), "--gpus 1e+12"),
        (Request("serve", 16, batch=10**12), "--batch 1e+12"),
        (Request("train", 300), "give --gpus 256 or 512"),
        (Request("train", 62, pipeline=62, experts=1), "give --pp 61 or less"),
        (Request("train", 80, pipeline=16, experts=5), "give --ep 4"),
        (Request("serve", 16, engine=6), "give --gpus 12 or 18"),
        (Request("serve", 400, engine=400), "give --engine-gpus 384 or less"),
        (Request("serve", 12, engine=12, attention="tp"), "--engine-gpus 4 or --attention dp"),
        (Request("serve", 16, context=200_000), "give 131072 or less"),
        (Request("serve", 16, "a100"), "choose from h800"),
    ],
)
def test_an_impossible_layout_says_what_to_change(k2, request_, said):
    with pytest.raises(PlanError, match=re.escape(said)):
        plan.make(k2, request_)


def test_a_directory_a_config_and_a_preset_are_the_same_model():
    assert plan.read_model(NANO) == plan.read_model(f"{NANO}/config.json")
    assert plan.read_model("k2") == preset("k2")
    with pytest.raises(PlanError, match="give nano, small, k2"):
        plan.read_model("nowhere")


def test_every_fact_and_every_gpu_names_its_sources():
    for name in facts._table("facts.toml"):
        assert facts.fact(name) > 0
        assert len(facts.source(name)) > 10
    assert facts.gpu_names() == ("h800", "h100", "h200", "b200")
    for table in facts._table("gpus.toml").values():
        numbers = [name for name, value in table.items() if not isinstance(value, str)]
        sources = {name.removesuffix("_source") for name in table if name.endswith("_source")}
        stems = {"bf16_tflops": "flops", "fp8_tflops": "flops"}
        assert {stems.get(name, name.split("_")[0]) for name in numbers} == sources


def test_the_command_prints_json_for_machines():
    done = run("--model", NANO, "--task", "serve", "--gpus", "1", "--json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.output)
    assert values["fits"] is True
    assert values["figures"]["parameters"] == 22_008_352
    assert values["request"]["form"] == "fp8"


def test_the_command_takes_every_option():
    done = run(
        *("--model", "nano", "--task", "rl", "--gpus", "8", "--gpu", "b200", "--format", "bf16"),
        *("--context", "256", "--batch", "4", "--micro-batch", "2", "--recompute", "none"),
        *("--offload-optimizer", "--pp", "2", "--ep", "4", "--engine-gpus", "2"),
        *("--attention", "dp", "--mfu", "0.2", "--bandwidth-utilisation", "0.5"),
        *("--price-per-gpu-hour", "1.5", "--tokens", "1e9"),
    )
    assert done.exit_code == 0, done.output
    assert "PP2" in done.output and "EP4" in done.output and "DP2" in done.output
    assert "1.50 USD per GPU-hour, as given" in done.output
    assert re.search(r"USD per hour, all GPUs +12\n", done.output)
    assert re.search(r"tokens of the run +1 B\n", done.output)


def test_the_command_refuses_with_advice():
    done = run("--task", "train", "--gpus", "100")
    assert done.exit_code == 2
    assert "give --gpus 256" in done.output


@pytest.mark.parametrize("tokens", ["inf", "nan", "1e19"])
def test_the_command_refuses_tokens_that_json_cannot_say(tokens):
    done = run("--model", "nano", "--task", "train", "--gpus", "1", "--tokens", tokens, "--json")
    assert done.exit_code == 2
    assert "--tokens" in done.output


def test_planning_loads_no_weights_and_no_gpu_library():
    """The room itself needs no torch; only the list of tensors brings it in."""
    source = "\n".join(path.read_text("utf-8") for path in Path(plan.__file__).parent.glob("*.py"))
    assert not re.search(r"^\s*(import|from) (torch|numpy)", source, re.MULTILINE)


def test_the_defaults_in_the_help_are_those_of_the_data_files():
    """Help must answer at once, so it repeats them instead of reading the room."""
    words = " ".join(CliRunner().invoke(app, ["plan", "--help"]).output.split())
    prices = {name: facts.gpu(name).price_usd_per_hour for name in facts.gpu_names()}
    assert ", ".join(f"{name.upper()} {price:g}" for name, price in prices.items()) in words
    assert f"[default: {facts.fact('mfu'):g};" in words
    assert f"[default: {facts.fact('bandwidth_utilisation'):g};" in words
    assert f"else {facts.fact('answers'):g}, rl at least" in words
    assert "DeepSeek-V3's hours make 0.39" in words
    assert f"train {facts.fact('train_tokens') / 1e12:g}e12" in words
    assert f"train {facts.fact('train_context'):.0f}," in words
