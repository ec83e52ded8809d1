#!/usr/bin/env bash
# Train the model that ships, from the data in this repository: about an hour on two idle CPU cores.
# An interrupted stage ends this script; started again, it continues where it stopped.
# The vocabulary was made before, by `python -m runs.nano_tokenizer`.
set -euo pipefail
cd "$(dirname "$0")/.."

openk2 pretrain configs/pretrain-nano.toml  # text, and the first conversations
openk2 sft configs/sft-nano.toml            # conversations of all kinds
openk2 sft configs/calls-nano.toml          # dense tool calls, down to the end of the learning rate
python -m runs.nano_ship --begin --stages pretrain sft calls
python -m runs.nano_eval
