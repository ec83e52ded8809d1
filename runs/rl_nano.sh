#!/usr/bin/env bash
# Teach the shipped nano by reward, with curated text beside the rewards (PTX) and without, and
# measure what that did to the practised families and to what the model could before. An
# interrupted step ends this script; started again, it continues where it stopped.
#
#   bash runs/rl_nano.sh                     # two cores; the curated text is tokenised the first time
#   ITERATIONS=10 bash runs/rl_nano.sh       # a look
set -euo pipefail
cd "$(dirname "$0")/.."
iterations=${ITERATIONS:-100}
config=configs/rl-nano.toml

teach() { openk2 rl "$config" --set iterations="$iterations" "$@"; }
evaluate() { openk2 eval --benchmarks bfcl,ifeval --limit 40 --model "$1" --out "$2"; }

evaluate openk2/assets/nano out/rl-evals/before
teach
teach --set ptx_rows=0 --set out=out/rl-nano-no-ptx
evaluate out/rl-nano/model out/rl-evals/ptx
evaluate out/rl-nano-no-ptx/model out/rl-evals/no-ptx
python -m runs.rl_nano
