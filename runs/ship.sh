#!/usr/bin/env bash
# Go on training the model that ships, from its own weights: what it has learned so far stays.
# An interrupted stage ends this script; started again, it continues where it stopped. To begin from
# nothing instead, run `runs/nano.sh` before.
#
#   DATA=out/synth/train.jsonl bash runs/ship.sh     # conversations that `openk2 synth` wrote
set -euo pipefail
cd "$(dirname "$0")/.."
data=${DATA:?the file of conversations that openk2 synth wrote}

openk2 sft configs/attend-nano.toml                    # attention is shown where copies come from
python -m runs.nano_codes --model out/attend-nano/model --to out/codes-nano/model
openk2 sft configs/copy-nano.toml                      # short rows: copying appears
openk2 sft configs/tools-nano.toml --data "$data=45"   # conversations of all kinds
openk2 sft configs/bind-nano.toml --data "$data=42"    # which value belongs to which parameter, and when no tool fits
openk2 sft configs/ship-nano.toml --data "$data=40"    # with experts rounded to INT4, down to the end of the learning rate
python -m runs.nano_ship
python -m runs.nano_eval
