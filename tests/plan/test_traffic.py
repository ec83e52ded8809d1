"""Every flow against a product that is written out here: shapes, tokens and links by hand.

K2: D 7168, 61 layers of which 60 have experts, 384 experts of 44,040,192 weights, 8 a token.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from openk2.model.config import K2Config
from openk2.plan import plan, traffic
from openk2.plan.counts import Census
from openk2.plan.facts import gpu
from openk2.plan.layout import EngineLayout, TrainLayout
from openk2.plan.memory import TrainLoad
from openk2.plan.request import Request, filled

REPORT = TrainLayout(gpus=256, pipeline=16, experts=16, chunks=4)
STEP = TrainLoad(context=4096, micro_batch=1, micro_batches=1024)
REACHED = 16 * (1 - math.comb(360, 8) / math.comb(384, 8))
"""Of 16 ranks, those that hold one of a token's experts."""


def flows(k2: K2Config, census: Census) -> dict[str, traffic.Flow]:
    found = traffic.train_flows(k2, census, REPORT, STEP, gpu("h800"))
    return {flow.key: flow for flow in found}


def test_the_pipeline_passes_every_chunk_both_ways(k2, census):
    flow = flows(k2, census)["pipeline"]
    assert flow.sent_bytes == 2 * 7168 * (4096 * 1024) * 4 * 2
    assert flow.sent_bytes == pytest.approx(481e9, rel=1e-3)
    assert flow.link_seconds == pytest.approx(481.036e9 / 50e9, rel=1e-4)


def test_the_exchange_goes_to_every_rank_reached_and_waits_for_the_port(k2, census):
    flow = flows(k2, census)["experts"]
    four_ways, layers = 4, 4
    sent = 2 * 7168 * (4096 * 1024) * four_ways * layers * REACHED * 15 / 16
    assert flow.sent_bytes == pytest.approx(sent)
    assert sent == pytest.approx(5862e9, rel=1e-3)
    # Of 15 other ranks 7 are in the node, over NVLink at 200 GB/s, and 8 over the port at 50.
    assert flow.link_seconds == pytest.approx(sent * 8 / 15 / 50e9)
    assert flow.link_seconds == pytest.approx(62.5, abs=0.1)


def test_an_exchange_within_a_node_takes_nvlink_alone():
    assert traffic.exchange_seconds(9e9, 8, gpu("h200")) == pytest.approx(9e9 / 450e9)
    assert traffic.exchange_seconds(9e9, 1, gpu("h200")) == 0


def test_sent_once_per_node_the_exchange_is_what_the_docs_say(k2, census):
    sent = flows(k2, census)["experts"].sent_bytes
    others = REACHED * 15 / 16
    over_port = others * 8 / 15
    once = 1 - math.comb(192, 8) / math.comb(384, 8)
    assert (others, over_port, once) == pytest.approx((6.09, 3.25, 0.996), abs=0.005)
    assert sent / others * once / 50e9 == pytest.approx(19.2, abs=0.1)
    # NVLink: own node's ranks, and the other node's token handed on to 7 of the 8 ranks there.
    handed_on = others * 7 / 15 + over_port * 7 / 8
    assert sent / others * handed_on / 200e9 == pytest.approx(27.4, abs=0.1)
    step_seconds = 181.5
    assert 27.4 / step_seconds <= 1 / 6.5


@pytest.mark.parametrize(("gpus", "muon_gb"), [(256, 1.765), (2048, 8.573)])
def test_zero1_flows_are_those_of_the_stage_that_sends_most_of_each(census, gpus, muon_gb):
    layout = replace(REPORT, gpus=gpus)
    replicas, data = gpus // 256, gpus // 16
    experts_share = (replicas - 1) / replicas / 16
    rest_share = (data - 1) / data
    trained, muon = [], []
    for stage in range(16):
        slots = [census.slots[16 * chunk + stage] for chunk in range(4) if 16 * chunk + stage < 63]
        split = [(s.experts.muon * experts_share, s.rest) for s in slots]
        trained.append(sum(e + rest.trained * rest_share for e, rest in split))
        muon.append(sum(e + rest.muon * rest_share for e, rest in split))
    reduced, gathered, momenta = traffic.zero1_bytes(census, layout)
    assert reduced == pytest.approx(4 * max(trained))
    assert gathered == pytest.approx(2 * max(trained))
    assert momenta == pytest.approx(2 * max(muon))
    assert momenta / 1e9 == pytest.approx(muon_gb, abs=5e-4)


def test_zero1_waits_for_the_port(k2, census):
    found = flows(k2, census)
    for key, gigabytes in (("reduce_scatter", 6.068), ("all_gather", 3.034), ("muon", 1.765)):
        assert found[key].sent_bytes / 1e9 == pytest.approx(gigabytes, abs=1e-3)
        assert found[key].link_seconds == pytest.approx(gigabytes / 50, rel=1e-3)


def test_tp_sums_two_products_of_every_layer(k2):
    flow = traffic.engine_flow(k2, EngineLayout(8, 8, "tp"), 16, gpu("h200"))
    assert flow.sent_bytes == 16 * 2 * 7168 * 2 * (2 * 7 / 8) * 61
    assert flow.sent_bytes == pytest.approx(49e6, rel=1e-3)
    assert flow.link_seconds == pytest.approx(48.97e6 / 450e9, rel=1e-3)


def test_dp_exchanges_the_tokens_of_its_fullest_gpu(k2):
    flow = traffic.engine_flow(k2, EngineLayout(16, 16, "dp"), 40, gpu("h200"))
    three_answers = 3  # of 40 on 16 GPUs
    sent = three_answers * 2 * 7168 * 2 * 60 * REACHED * 15 / 16
    assert flow.sent_bytes == pytest.approx(sent)
    assert sent == pytest.approx(31.45e6, rel=1e-3)
    assert flow.link_seconds == pytest.approx(sent * 8 / 15 / 50e9)


def test_an_update_enters_a_node_over_its_ports_and_spreads_over_nvlink(census):
    many = traffic.update_flow(census, EngineLayout(256, 16, "tp"), "fp8", gpu("h800"))
    assert many.link_seconds == pytest.approx(1029.173e9 / (8 * 50e9) + 1029.173e9 / 200e9)
    one = traffic.update_flow(census, EngineLayout(8, 8, "tp"), "int4", gpu("h200"))
    assert one.link_seconds == pytest.approx(594.2e9 / 450e9, rel=1e-3)


def test_rl_in_ram_is_what_is_parked_where_nothing_is_offloaded(k2, census):
    request = Request("rl", 512, "h200", recompute="none", context=256, batch=32)
    found = plan._task(k2, census, filled(k2, request))
    held = found.phases["train"]
    assert held.experts == pytest.approx(8.456e9, rel=1e-3)
    parked = held.experts + held.weights + held.optimizer
    assert found.host_gb_per_node == pytest.approx(8 * parked / 1e9)
    assert parked > 25e9
