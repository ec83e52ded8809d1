"""The curves of stages that follow each other, and the codes that are given between them."""

import json

import pytest
import torch

from runs import nano_codes
from runs.copying import curves, plot


def log(folder, *rows):
    folder.mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metrics.jsonl").write_text(text)
    return folder


def test_the_second_stage_goes_on_counting_where_the_first_ended(tmp_path):
    sources, names = "attention_on_sources", "name_right/copy_calls"
    one = log(
        tmp_path / "one",
        {"step": 4, "tokens": 40, sources: 0.1},
        {"step": 5, "tokens": 50, sources: 0.2},
        {"step": 7, "tokens": 70, sources: 0.3, names: 0.4},
    )
    two = log(tmp_path / "two", {"step": 5, "tokens": 50, sources: 0.5, names: 0.6})
    found = curves([one, two])
    assert found[sources] == [(5, 50, 0.2), (12, 120, 0.5)]
    assert found[names] == [(7, 70, 0.4), (12, 120, 0.6)]
    plot(found, 7, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_codes_are_of_one_length_and_close_for_words_that_differ_by_a_space():
    alike_V = torch.arange(512)
    alike_V[100:200] = torch.arange(200, 300)  # as " Paris" is taken for "Paris"
    looks_VD = torch.randn(512, 96, generator=torch.Generator().manual_seed(0))
    code_VC = nano_codes.shared(nano_codes.whitened(looks_VD), alike_V)
    assert code_VC.norm(dim=1) == pytest.approx(torch.ones(512), abs=1e-5)
    cosine_VV = code_VC @ code_VC.T
    assert cosine_VV[100:200, 200:300].diagonal().min() > 0.7
    others = cosine_VV[100:200, 300:400]
    assert others.abs().mean() < 0.2
    assert (cosine_VV.argmax(1) == torch.arange(512)).all()


def test_the_head_changes_in_the_least_used_directions_only(monkeypatch):
    monkeypatch.setattr(nano_codes, "WIDTH", 4)
    hidden_ND = torch.randn(400, 16, generator=torch.Generator().manual_seed(1))
    hidden_ND[:, :4] *= 1e-3  # the first four directions are hardly used
    assert nano_codes.least_used(hidden_ND)[4:].abs().max() < 1e-2
