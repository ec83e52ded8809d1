"""From packs to a trained model directory, as a person runs it."""

import json
from pathlib import Path

import pytest
import torch
import zstandard
from typer.testing import CliRunner

from openk2.cli import app
from openk2.config import ConfigError, from_mapping, load
from openk2.model import weights
from openk2.model.config import preset
from openk2.text.tokenizer import Tokenizer
from openk2.train import made_from, metrics, shards
from openk2.train.pretrain import PretrainConfig
from openk2.train.pretrain import run as pretrain
from openk2.train.sft import SftConfig
from openk2.train.sft import run as sft

ROOT = Path(__file__).resolve().parents[2]
TOOL = {
    "name": "weather",
    "description": "Tell the weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def write_pack(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(zstandard.ZstdCompressor().compress(text.encode()))


def dialogue(number):
    call = {"id": f"c{number}", "name": "weather", "arguments": {"city": f"City {number}"}}
    return {
        "id": str(number),
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": f"Weather in City {number}?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "id": call["id"], "content": f"{number} degrees"},
            {"role": "assistant", "content": f"It is {number} degrees in City {number}."},
            {"role": "user", "content": "Thanks!"},
            {"role": "assistant", "content": "Any time."},
        ],
    }


@pytest.fixture
def data(tmp_path, make_model):
    """Settings of a run on two small packs, with a byte tokenizer and the tiny model."""
    stories = [{"src": "s", "text": f"Story {n}. " + "It rained. " * (n % 60)} for n in range(80)]
    write_pack(tmp_path / "packs/pretrain/stories_en.jsonl.zst", stories)
    dialogues = [dialogue(n) for n in range(60)]
    write_pack(tmp_path / "packs/instruct/tm4_coffee_tooluse.jsonl.zst", dialogues)
    tokenizer = Tokenizer.from_ranks({bytes((b,)): b for b in range(256)}, 32)
    tokenizer.save(tmp_path / "tokenizer")
    weights.save(make_model(tokenizer.vocab_size), tmp_path / "start")
    return {
        "packs": str(tmp_path / "packs"),
        "shards": str(tmp_path / "shards"),
        "tokenizer": str(tmp_path / "tokenizer"),
        "held_out_share": 0.2,
        "seq_len": 512,
        "texts": {"stories_en": 1.0},
        "conversations": {"tm4": 1.0},
    }


def settings(cls, tmp_path, data, **more):
    loop = {"steps": 3, "batch_tokens": 1024, "warmup_steps": 1, "eval_every": 2, "save_every": 3}
    values = {"data": data, "loop": loop, "model": str(tmp_path / "start"), **more}
    return from_mapping(cls, {"out": str(tmp_path / "out"), **values})


def test_shards_split_packs_and_mask_what_the_assistant_does_not_say(tmp_path, data):
    config = settings(PretrainConfig, tmp_path, data).data
    reports = []
    shards.prepare(config, reports.append)
    assert len(reports) == 4
    tokenizer = Tokenizer.load(config.tokenizer)
    for name, total in (("stories_en", 80), ("tm4", 60)):
        kept, held = (shards.open_shard(config, name, held=side) for side in (False, True))
        assert 0 < len(held) < total / 2
        both = [tokenizer.decode(s.document(i)[0]) for s in (kept, held) for i in range(len(s))]
        assert len(set(both)) == len(both) == total
    ids, learn = shards.open_shard(config, "tm4").document(0)
    said = tokenizer.decode(ids[learn > 0])
    assert said.count("<|im_end|>") == 3
    assert "functions.weather:0" in said
    assert "Thanks" not in said
    assert "Tell the weather" not in said
    ids, learn = shards.open_shard(config, "stories_en").document(0)
    assert (ids[0], ids[-1]) == (tokenizer.bos, tokenizer.eos)
    assert learn.all()
    shards.prepare(config, reports.append)
    assert len(reports) == 4, "existing shards are kept"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"held_out_share": 0.3}, "held_out_share"),
        ({"read_share": 0.5}, "read_share"),
        ({"conversations": {}, "measured": ["tm4"]}, "held_out_share"),
    ],
)
def test_shards_of_other_settings_are_refused(tmp_path, data, change, what):
    shards.prepare(settings(PretrainConfig, tmp_path, data).data, lambda line: None)
    changed = settings(PretrainConfig, tmp_path, {**data, **change}).data
    with pytest.raises(ValueError, match=f"another {what}: delete that folder or set data.shards"):
        shards.prepare(changed, lambda line: None)
    with pytest.raises(ValueError, match=f"another {what}: delete"):
        shards.open_held_out(changed, ["tm4"])
    elsewhere = {**data, **change, "shards": str(tmp_path / "elsewhere")}
    shards.prepare(settings(PretrainConfig, tmp_path, elsewhere).data, lambda line: None)


def test_what_was_only_measured_is_not_trained_on_afterwards(tmp_path, data):
    measuring = {**data, "conversations": {}, "measured": ["tm4"]}
    shards.prepare(settings(PretrainConfig, tmp_path, measuring).data, lambda line: None)
    with pytest.raises(ValueError, match="another held_out_share: delete"):
        shards.prepare(settings(PretrainConfig, tmp_path, data).data, lambda line: None)
    assert not list((tmp_path / "shards" / "train").glob("tm4*"))


def test_shards_of_other_packs_or_another_tokenizer_or_of_none_are_refused(tmp_path, data):
    config = settings(PretrainConfig, tmp_path, data).data
    shards.prepare(config, lambda line: None)
    pack = tmp_path / "packs/instruct/tm4_coffee_tooluse.jsonl.zst"
    before = pack.read_bytes()
    write_pack(pack, [dialogue(n) for n in range(61)])
    with pytest.raises(ValueError, match=r"held_out/tm4-512 was made with another packs: delete"):
        shards.prepare(config, lambda line: None)
    pack.write_bytes(before)
    shards.prepare(config, lambda line: None)
    Tokenizer.from_ranks({bytes((255 - b,)): b for b in range(256)}, 32).save(config.tokenizer)
    with pytest.raises(ValueError, match="another tokenizer: delete"):
        shards.open_mixture(config, seed=0)
    (tmp_path / "shards/train/stories_en/made_from.json").unlink()
    with pytest.raises(ValueError, match="does not say what it was made from: delete"):
        shards.open_shard(config, "stories_en")


def test_a_work_is_held_out_whole_and_a_small_pack_has_one(tmp_path, data):
    names = [f"Book {n}" for n in range(5)]
    chapters = [{"src": "books", "author": "A", "title": name, "text": f"{name}, chapter {n}."}
                for n in range(9) for name in names]  # fmt: skip
    write_pack(tmp_path / "packs/pretrain/books_en_pd.jsonl.zst", chapters)
    more = {"texts": {"books_en_pd": 1.0}, "conversations": {}, "held_out_share": 0.01}
    config = settings(PretrainConfig, tmp_path, {**data, **more}).data
    shards.prepare(config, lambda line: None)
    tokenizer = Tokenizer.load(config.tokenizer)
    titles = []
    for held, count in ((False, 36), (True, 9)):
        shard = shards.open_shard(config, "books_en_pd", held=held)
        assert len(shard) == count
        texts = [tokenizer.decode(shard.document(i)[0]) for i in range(count)]
        titles.append({name for name in names for text in texts if name in text})
    assert [len(found) for found in titles] == [4, 1]
    assert titles[0].isdisjoint(titles[1])


def test_windows_of_a_long_conversation_learn_every_turn_once(tmp_path, data):
    config = settings(PretrainConfig, tmp_path, {**data, "seq_len": 440}).data
    shards.prepare(config, lambda line: None)
    tokenizer = Tokenizer.load(config.tokenizer)
    said = ""
    for held in (False, True):
        shard = shards.open_shard(config, "tm4", held=held)
        assert max(len(shard.document(i)[0]) for i in range(len(shard))) <= 441
        for index in range(len(shard)):
            ids, learn = shard.document(index)
            said += tokenizer.decode(ids[learn > 0])
    assert said.count("Any time.") == 60


def test_a_file_of_ones_own_is_measured_on_whole(tmp_path, data):
    own = tmp_path / "eval.jsonl"
    call = {"id": "c", "name": "weather", "arguments": '{"city": "Ulm"}'}
    said = [{"role": "user", "content": "Ulm?"}, {"role": "assistant", "tool_calls": [call]}]
    own.write_text((json.dumps({"tools": [TOOL], "messages": said}) + "\n") * 12)
    with pytest.raises(ValueError, match="there is no conversation pack"):
        settings(SftConfig, tmp_path, {**data, "measured": ["eval.txt"]})
    config = settings(SftConfig, tmp_path, {**data, "texts": {}, "measured": [str(own)]})
    shards.prepare(config.data, lambda line: None)
    assert len(shards.open_shard(config.data, str(own), held=True)) == 12
    assert str(own) not in shards.open_mixture(config.data, 0).names
    assert sft(config).metrics[f"calls/{own}"] == 12


def test_reasoning_is_learned_where_a_conversation_has_it(tmp_path, data):
    def row(n, **more):
        said = {"role": "assistant", "content": f"It is {n}.", **more}
        return {"key": str(n), "messages": [{"role": "user", "content": f"Say {n}"}, said]}

    own = tmp_path / "own.jsonl"
    rows = [*(row(n) for n in range(20)), *(row(n, reasoning="Easy!") for n in range(20, 40))]
    own.write_text("".join(json.dumps(r) + "\n" for r in rows))
    config = settings(PretrainConfig, tmp_path, data).data
    config = shards.with_files(config, [str(own)])
    shards.prepare(config, lambda line: None)
    tokenizer = Tokenizer.load(config.tokenizer)
    learned = []
    for held in (False, True):
        shard = shards.open_shard(config, str(own), held=held)
        for index in range(len(shard)):
            ids, learn = shard.document(index)
            learned.append(tokenizer.decode(ids[learn > 0]))
    thought = sorted(text for text in learned if "think" in text)
    assert thought == sorted(f"<think>Easy!</think>It is {n}.<|im_end|>" for n in range(20, 40))
    assert len(learned) == 40


def test_pretraining_leaves_a_model_and_its_record(tmp_path, data):
    config = settings(PretrainConfig, tmp_path, data)
    with pytest.raises(FileNotFoundError, match="prepare the data first"):
        pretrain(config)
    shards.prepare(config.data, lambda line: None)
    result = pretrain(config)
    assert (result.step, result.reason) == (3, "finished")
    assert result.metrics["bits_per_byte"] > 0
    assert {"bits_per_byte/stories_en", "held_out_loss/tm4"} <= result.metrics.keys()
    out = tmp_path / "out"
    assert (out / "metrics.png").exists()
    record = json.loads((out / "config.json").read_text())
    assert record.pop("run").keys() == {"device", "dtype", "threads"}
    assert from_mapping(PretrainConfig, record) == config
    assert Tokenizer.load(out / "model").vocab_size == 288
    start = weights.load(tmp_path / "start", torch.float32, "cpu").state_dict()
    end = weights.load(out / "model", torch.float32, "cpu").state_dict()
    assert all(not torch.equal(start[name], end[name]) for name in start)


def test_fine_tuning_measures_tool_calls(tmp_path, data):
    config = settings(SftConfig, tmp_path, {**data, "texts": {}})
    shards.prepare(config.data, lambda line: None)
    result = sft(config)
    assert {"name_right", "arguments_right/tm4", "both_right"} <= result.metrics.keys()
    assert result.metrics["calls"] > 3
    rows = metrics.read(tmp_path / "out" / "metrics.jsonl")
    assert [("both_right" in row) for row in rows] == [False, True, True]
    assert (tmp_path / "out" / "model" / "config.json").exists()


def test_fine_tuning_learns_from_a_file_of_conversations(tmp_path, data):
    rows = [
        {"key": f"task-{n // 2}", "messages": [
            {"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"It is {n}"}
        ]}
        for n in range(40)
    ]  # fmt: skip
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = settings(SftConfig, tmp_path, data).data
    weights = shards.with_files(config, [str(own), "other.jsonl=0.5"]).weights
    assert weights == {"stories_en": 1, "tm4": 1, str(own): 2, "other.jsonl": 0.5}
    config = shards.with_files(config, [str(own)])
    shards.prepare(config, lambda line: None)
    kept, held = (shards.open_shard(config, str(own), held=side) for side in (False, True))
    assert (len(kept) + len(held), len(held) % 2) == (40, 0), "a key stays on one side"
    assert len(held) > 0
    names = shards.open_mixture(config, 0).names
    assert set(names) == {"stories_en", "tm4", str(own)}
    own.write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(made_from.OtherShardError, match=r"own\.jsonl"):
        shards.prepare(config)
    with pytest.raises(ValueError, match="own=x: the weight is not a number greater than 0"):
        shards.with_files(config, ["own=x"])


def test_a_run_does_not_resume_on_another_model_than_it_began_from(tmp_path, data, make_model):
    config = settings(SftConfig, tmp_path, {**data, "texts": {}}, eval_calls_documents=1)
    shards.prepare(config.data, lambda line: None)
    sft(config)
    sft(config)
    other = make_model(288)
    with torch.no_grad():
        other.norm.weight.mul_(2)
    weights.save(other, tmp_path / "start")
    with pytest.raises(ValueError, match=r"began from another model.*--fresh"):
        sft(config)
    assert sft(config, resume=False).reason == "finished"


def test_a_run_that_stops_early_fails_the_command(tmp_path, data):
    path = tmp_path / "run.toml"
    tables = {key: data.pop(key) for key in ("texts", "conversations")}
    lines = [f'model = "{tmp_path}/missing"', f'out = "{tmp_path}/out"', "[data]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in data.items()]
    for name, table in tables.items():
        lines += [f"[data.{name}]", *(f"{key} = {value}" for key, value in table.items())]
    lines += ["[loop]", "steps = 2", "batch_tokens = 512", "max_minutes = 1e-9"]
    path.write_text("\n".join(lines))
    command = ["pretrain", str(path)]
    missing = CliRunner().invoke(app, command)
    assert missing.exit_code == 2
    assert "there is no model directory" in missing.output
    assert not (tmp_path / "shards").exists()
    command += ["--set", f"model={tmp_path}/start"]
    assert CliRunner().invoke(app, command).exit_code == 75
    assert CliRunner().invoke(app, [*command, "--set", "loop.max_minutes=none"]).exit_code == 0


def test_a_tokenizer_larger_than_the_model_is_refused(tmp_path, data, make_model):
    weights.save(make_model(200), tmp_path / "small")
    config = settings(PretrainConfig, tmp_path, data, model=str(tmp_path / "small"))
    shards.prepare(config.data, lambda line: None)
    with pytest.raises(ValueError, match="the tokenizer has 288 tokens but model"):
        pretrain(config)


@pytest.mark.parametrize(
    ("packs", "message"),
    [
        ({"conversations": {"sgd_test": 1.0}}, "'sgd_test' is for measuring"),
        ({"conversations": {"tm4": 1.0}, "measured": ["tm4"]}, "'tm4' is for measuring"),
        ({"conversations": {"sgd_trian": 1.0}}, "'sgd_trian': did you mean 'sgd_train'"),
        ({"texts": {"storys_en": 1.0}}, "no text pack 'storys_en': did you mean 'stories_en'"),
        ({"measured": ["nlu_call_test"]}, "'nlu_call_test': did you mean 'nlu_calls_test'"),
    ],
)
def test_packs_that_must_not_be_trained_on_or_do_not_exist_are_refused(packs, message):
    with pytest.raises(ConfigError, match=message):
        from_mapping(shards.DataConfig, packs)


STAGES = sorted(path for path in (ROOT / "configs").glob("*.toml") if "rl-" not in path.stem)


@pytest.mark.parametrize("path", STAGES, ids=lambda p: p.stem)
def test_the_configs_of_the_repository_load(path):
    config = load(PretrainConfig if "pretrain" in path.stem else SftConfig, path)
    assert config.loop.schedule().total_steps == config.loop.steps
    assert config.data.seq_len <= preset("nano").max_position_embeddings
