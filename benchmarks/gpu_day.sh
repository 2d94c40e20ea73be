#!/usr/bin/env bash
# Everything that needs a GPU, in parts of a few minutes; each part writes its log and results into FOLDER.
#
#     benchmarks/gpu_day.sh FOLDER [tests|suite|speed|train]...      default: all four, in this order
#
# tests: what is marked cuda, every form beside its equation, the kernels. suite: the whole suite, with a GPU there.
# speed: `crate bench` beside the public form and transformers' models. train: two short trainings, float32 and bfloat16.
# A part that has its mark in FOLDER is not run again, so a day that was cut off goes on.
set -uo pipefail
folder=${1:?usage: gpu_day.sh FOLDER [PART]...}
shift
mkdir -p "$folder"
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
crate="$python -m crate_transformers"

tests() { $python -m pytest -m cuda -v -n 0 --durations=10 -p no:cacheprovider -p no:benchmark; }
suite() { $python -m pytest -q -n "${WORKERS:-8}" -p no:cacheprovider -p no:benchmark; }
speed() {
    $crate bench vision --only "batch 16" --repetitions 7 --budget 15 --output "$folder" &&
        $crate bench bfloat16 --repetitions 7 --budget 12 --output "$folder" &&
        $crate bench length --repetitions 5 --budget 8 --output "$folder" &&
        $crate bench text --repetitions 5 --budget 15 --output "$folder"
}
train() {
    for precision in "" "--set train.bf16=true"; do
        # shellcheck disable=SC2086 # two words or none
        $crate train --output "$folder/run${precision:+-bf16}" --overwrite $precision || return 1
    done
}

for part in "${@:-tests suite speed train}"; do
    for name in $part; do
        [ -e "$folder/$name.done" ] && continue
        echo "== $name"
        SECONDS=0
        "$name" >"$folder/$name.log" 2>&1
        status=$?
        tail -n 12 "$folder/$name.log"
        echo "== $name: status $status, $SECONDS s"
        [ $status -eq 0 ] && touch "$folder/$name.done"
    done
done
$python - "$folder" <<'PAGE'
import sys
from importlib.metadata import version
import torch
gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
print(f"{gpu}, torch {version('torch')}, transformers {version('transformers')}: logs and results in {sys.argv[1]}")
PAGE
