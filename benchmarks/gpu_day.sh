#!/usr/bin/env bash
# Everything that needs a GPU, in calls of less than ten minutes; results, logs and one page go into FOLDER.
#
#     benchmarks/gpu_day.sh FOLDER one|two|three|short|PART...
#
# one    tests (what is marked cuda), kernels (beside float64 and torch's), suite (the whole suite, with a GPU there)
# two    `crate bench`: vision, bfloat16, text, length, analysis, weights, best
# three  train (float32, bfloat16, compiled; each with its average), step (compiled, sharded on one device), loading
# short  four minutes: tests, a short form of kernels, bench and train, and of the suite what opens models by itself
#
# A part that is done is not run again, so a day that was cut off goes on; a part that failed or ran over its time is.
# What a part measured before it was cut off is kept. FOLDER/page.md is written anew after every part (gpu_page.py).
set -uo pipefail
folder=${1:?usage: gpu_day.sh FOLDER one|two|three|short|PART...}
shift
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
workers=${WORKERS:-$(($(nproc) > 14 ? 14 : $(nproc)))}
export PYTHONUNBUFFERED=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" HF_HUB_OFFLINE=1
seconds=590

crate() { $python -W ignore -m crate_transformers "$@"; }
pytest() { # WORKERS ARGUMENT...; what other versions of other libraries deprecate is not asked here
    $python -m pytest -v -p no:cacheprovider -p no:benchmark -W ignore::DeprecationWarning --durations=10 --tb=short \
        --continue-on-collection-errors -n "$@"
}
run() { # NAME [--set KEY=VALUE]...: a training of the digits
    name=$1
    shift
    rm -rf "$folder/$name"
    crate train digits --output "$folder/$name" "$@"
}

# shellcheck disable=SC2046 # one word a file
tests() { pytest "$workers" --dist=load -m cuda $(grep -rl "mark.cuda" tests --include="test_*.py"); }
suite() { pytest "$workers" --maxfail=60; }
opening() { pytest "$workers" --maxfail=30 tests/evaluation tests/explore tests/cli tests/analysis tests/training/test_run.py; }
kernels() { $python benchmarks/kernels_gpu.py --output "$folder"; }
kernels-short() { $python benchmarks/kernels_gpu.py --output "$folder" --quick; }

bench() { crate bench "$@" --output "$folder"; }
vision() { bench vision --repetitions 9 --budget 4; }
bfloat16() { bench bfloat16 --repetitions 9 --budget 5; }
text() { bench text --repetitions 5 --budget 8; }
length() { bench length --repetitions 5 --budget 5; }
analysis() { bench analysis --repetitions 5 --budget 5; }
weights() { bench weights --repetitions 5 --budget 6; }
best() { bench best --repetitions 5 --budget 6; }
bench-short() { bench vision --only "batch 64" --repetitions 5 --budget 1; }

train-float32() { run train-float32; }
train-bf16() { run train-bf16 --set train.bf16=true; }
train-compiled() { run train-compiled --set train.bf16=true --set train.torch_compile=true; }
train-bf16-short() { run train-bf16 --set train.bf16=true --set train.num_train_epochs=12; }
train-compiled-short() {
    run train-compiled --set train.bf16=true --set train.torch_compile=true --set train.num_train_epochs=3
}
steps() { $python benchmarks/steps_gpu.py --output "$folder"; }
loading() { $python benchmarks/loading_gpu.py --output "$folder"; }

# the seconds that a part may take; the calls one, two, three stay below ten minutes altogether
limit() {
    case $1 in
        suite) echo 390 ;;
        tests) echo 110 ;;
        kernels | vision) echo 150 ;;
        kernels-short | bench-short) echo 30 ;;
        train-*-short) echo 30 ;;
        opening) echo 110 ;;
        *) echo 90 ;;
    esac
}

parts=()
for asked in "$@"; do
    case $asked in
        one) parts+=(tests kernels suite) ;;
        two) parts+=(vision bfloat16 text length analysis weights best) ;;
        three) parts+=(train-float32 train-bf16 train-compiled steps loading) ;;
        short)
            parts+=(tests kernels-short bench-short train-bf16-short train-compiled-short opening)
            seconds=215
            ;;
        *) parts+=("$asked") ;;
    esac
done

start=$SECONDS
export -f crate pytest run bench
export python folder workers
for name in "${parts[@]}"; do
    [ -e "$folder/$name.done" ] && continue
    left=$((seconds - (SECONDS - start)))
    [ "$left" -lt 10 ] && echo "== $name: no time left" && continue
    most=$(limit "$name")
    [ "$most" -gt "$left" ] && most=$left
    echo "== $name (at most $most s)"
    began=$SECONDS
    # an interrupt first: pytest says then what failed so far
    timeout --signal=INT --kill-after=8 "$most" bash -c "$(declare -f "$name"); $name" >"$folder/$name.log" 2>&1
    status=$?
    took=$((SECONDS - began))
    tail -n "${TAIL:-6}" "$folder/$name.log" | cut -c1-300
    echo "== $name: status $status, $took s"
    echo "$name $status $took" >>"$folder/parts.txt"
    [ $status -eq 0 ] && touch "$folder/$name.done"
    $python benchmarks/gpu_page.py "$folder" || true
done
