#!/usr/bin/env bash
# Train the model that ships, from the data in this repository. About two hours on two CPU cores.
# Interrupted runs continue where they stopped; the vocabulary is made by `python -m runs.nano_tokenizer`.
set -euo pipefail
cd "$(dirname "$0")/.."

python -m openk2.cli pretrain configs/pretrain-nano.toml
python -m openk2.cli sft configs/sft-nano.toml
python -m runs.nano_ship
python -m runs.nano_eval
