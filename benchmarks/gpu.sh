#!/usr/bin/env bash
# Everything that wants a GPU, in one command that ends within 9 minutes:
#
#   benchmarks/gpu.sh          build, checks, bandwidths, training, inversion
#   benchmarks/gpu.sh --tiny   the same parts on a CPU at toy sizes, to test this script
#
# Results are files in $OUT (default benchmarks/results/gpu-NAME): summary.md to read, parts.jsonl (what ran, how it
# ended), doctor.json, ops.jsonl, training.jsonl, inversion.jsonl, log.txt. A part that fails or runs out of its time is
# noted and the next one starts.
#
# Runs with $PYTHON, else .venv/bin/python, else python3. What this Python lacks is installed: with pip install -e .
# from the package index, or from the wheels in the folder $WHEELS, next to this run only, on a machine without network.
# $BUDGET_S are the seconds for everything (default 530).
set -uo pipefail
cd "$(dirname "$0")/.."

TINY=0
case "${1:-}" in
    --tiny) TINY=1 ;;
    "") ;;
    *) echo "usage: benchmarks/gpu.sh [--tiny]" >&2; exit 2 ;;
esac
BUDGET_S=${BUDGET_S:-530}
if [ -z "${PYTHON:-}" ]; then
    PYTHON=.venv/bin/python
    [ -x "$PYTHON" ] || PYTHON=python3
fi
if [ -z "${OUT:-}" ]; then
    name=tiny
    if [ "$TINY" = 0 ]; then
        name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1 | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
    fi
    OUT=benchmarks/results/gpu-${name:-none}
fi
mkdir -p "$OUT" || exit 2
OUT=$(cd "$OUT" && pwd)
rm -f "$OUT"/{summary.md,parts.jsonl,doctor.json,ops.jsonl,training.jsonl,inversion.jsonl,log.txt}
SITE=$(mktemp -d)
trap 'rm -rf "$SITE"' EXIT
export PYTHONUNBUFFERED=1

# part NAME SECONDS COMMAND...: run it, at most so long and within the budget, and note how it ended.
part() {
    local name=$1 limit=$2 started=$SECONDS left code
    shift 2
    left=$((BUDGET_S - SECONDS))
    if [ "$left" -lt 5 ]; then
        echo "{\"part\": \"$name\", \"code\": null, \"seconds\": 0}" >>"$OUT/parts.jsonl"
        echo "== $name: no time left"
        return 1
    fi
    [ "$limit" -lt "$left" ] || limit=$left
    echo "== $name (at most $limit s)" | tee -a "$OUT/log.txt"
    timeout --kill-after=5 "$limit" "$@" 2>&1 | tee -a "$OUT/log.txt"
    code=${PIPESTATUS[0]}
    echo "{\"part\": \"$name\", \"code\": $code, \"seconds\": $((SECONDS - started))}" >>"$OUT/parts.jsonl"
    [ "$code" = 0 ]
}

missing() {
    "$PYTHON" -c 'from importlib.util import find_spec
names = "filelock hypothesis jsonargparse lpips matplotlib ninja platformdirs pytest pytest_timeout pytorch_lightning"
names += " safetensors scipy tensorboard torch torchmetrics torchvision yaml"
print(*[name for name in names.split() if find_spec(name) is None])'
}

install() {
    local absent
    absent=$(missing) || return 1
    [ -n "$absent" ] || return 0
    echo "missing: $absent"
    if [ -n "${WHEELS:-}" ]; then
        "$PYTHON" -m pip install --quiet --no-index --no-deps --target "$SITE" "$WHEELS"/*.whl
    else
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    fi
    absent=$(missing) || return 1
    [ -z "$absent" ] || { echo "still missing: $absent"; return 1; }
}

doctor() {
    "$PYTHON" -m rtil.doctor "$@" --json >"$OUT/doctor.json"
    local code=$?
    "$PYTHON" -m benchmarks.gpu_summary "$OUT" --doctor
    return $code
}

export PYTHON OUT SITE WHEELS=${WHEELS:-}
export PYTHONPATH="$SITE${PYTHONPATH:+:$PYTHONPATH}"
export -f missing install doctor

bench="$PYTHON -m benchmarks"
part install 120 bash -c install
if [ "$TINY" = 1 ]; then
    export CUDA_VISIBLE_DEVICES=
    part doctor 240 bash -c doctor
    part tests 240 "$PYTHON" -m pytest -p no:cacheprovider --tb short --showlocals tests/rtil/ops/test_devices.py
    export RTIL_OPS=native
    part ops 240 $bench ops --sizes 1x4x4 --dtypes bfloat16 --ops tail,R1 --tiers native --repeats 1 --sample_ms 0.01 \
        --record "$OUT"
    part "training 8 px" 240 $bench training --resolution 8 --channels '{4:4,8:4}' --w_dim 8 --mapping_layers 1 \
        --batch 4 --trainings vanilla --tiers native --cycle weighted --repeats 1 --record "$OUT"
    part inversion 240 $bench inversion --resolution 8 --channels '{4:4,8:4}' --w_dim 8 --mapping_layers 1 \
        --batches 1,2 --steps 1,1 --repeats 1 --record "$OUT"
else
    part doctor 180 bash -c 'doctor --build'
    tiers=$("$PYTHON" -m benchmarks.gpu_summary "$OUT" --tiers) || tiers=native
    part tests 75 "$PYTHON" -m pytest -p no:cacheprovider --tb short --showlocals tests/rtil/ops/test_devices.py
    part ops 90 $bench ops --sizes 64x64x256,16x128x128,32x64x32 --layouts nhwc --tiers "$tiers" --sample_ms 10 \
        --device cuda --record "$OUT"
    for side in 256 64 128; do
        part "training $side px" 90 $bench training --resolution "$side" --batch 16 --tiers "${tiers##*,}" --repeats 2 \
            --profile --device cuda --record "$OUT"
    done
    part inversion 75 $bench inversion --resolution 64 --batches 1,16,64 --steps 30,20,20,30 --repeats 2 --device cuda \
        --record "$OUT"
fi
"$PYTHON" -m benchmarks.gpu_summary "$OUT" || exit 1
echo "== done in $SECONDS s: $OUT/summary.md"
! grep -q '"code": \([1-9]\|null\)' "$OUT/parts.jsonl"
