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
# Runs with $PYTHON, else .venv/bin/python, else python3, and installs what this Python lacks, in the releases of
# lock.txt: pip install -c lock.txt -e '.[dev]'. On a machine that has torch but no network, a folder $PACKAGES that was
# made elsewhere has it. Where only torch, Lightning and pytest are installed that is:
#
#   pip install --no-deps -c lock.txt --target .packages jsonargparse docstring_parser typeshed_client lpips platformdirs
#   PACKAGES=.packages benchmarks/gpu.sh
#
# Every part has a limit in seconds; together they are $BUDGET_S (default 530), behind which no other part is begun. What
# a part leaves of its time the next ones may use.
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
if [ -n "${PACKAGES:-}" ]; then
    PACKAGES=$(cd "$PACKAGES" && pwd) || exit 2
    export PYTHONPATH="$PACKAGES${PYTHONPATH:+:$PYTHONPATH}"
fi
export PYTHON OUT PACKAGES=${PACKAGES:-} PYTHONUNBUFFERED=1 PIP_RETRIES=1 PIP_TIMEOUT=5

# part NAME SECONDS COMMAND...: run it, at most so long and what parts before it left, and note how it ended.
spare=0
part() {
    local name=$1 limit=$(($2 + spare)) started=$SECONDS left code
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
    spare=$((limit - (SECONDS - started)))
    [ "$spare" -gt 0 ] || spare=0
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
    [ -z "$PACKAGES" ] || { echo "put it into the folder \$PACKAGES, with what it needs itself"; return 1; }
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint lock.txt --editable '.[dev]'
    absent=$(missing) || return 1
    [ -z "$absent" ] || { echo "still missing: $absent"; return 1; }
}

doctor() {
    "$PYTHON" -m rtil doctor --build --json >"$OUT/doctor.json"
    local code=$?
    "$PYTHON" -m benchmarks.gpu_summary "$OUT" --doctor
    return $code
}

# tests FILE[:PLACE]...: run tests of the operations, of a file or of a place in it. The processes of pytest run side by
# side, as each computes its references on one thread.
tests() {
    local what pid code=0 pids=()
    for what in "$@"; do
        named_test "$what" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do
        wait "$pid" || code=1
    done
    return $code
}

# named_test FILE[:PLACE]: run them; every line begins with their name.
named_test() {
    local file=${1%%:*} place
    place=${1#"$file"}
    set -o pipefail
    "$PYTHON" -m pytest -p no:cacheprovider -vv --tb short --showlocals "tests/rtil/ops/$file" -k "${place#:}" 2>&1 |
        sed -u "s/^/$1: /"
}

export -f missing install doctor tests named_test

[ "$TINY" = 0 ] || export CUDA_VISIBLE_DEVICES=
part install 30 bash -c install
part doctor 100 bash -c doctor
tiers=$("$PYTHON" -m benchmarks.gpu_summary "$OUT" --tiers) || tiers=native
tier=${tiers##*,}
if [ "$TINY" = 1 ]; then
    checked=(test_cuda_gpu.py test_devices.py:cpu-native)
elif [ "$tier" = ext ]; then
    checked=(test_cuda_gpu.py test_devices.py:cuda-ext test_devices.py:cuda-native)
else
    checked=(test_devices.py:cuda-native)
fi
part tests 75 bash -c 'tests "$@"' tests "${checked[@]}"

export RTIL_OPS=$tier # no part tries again to build what could not be built
bench=("$PYTHON" -m benchmarks)
if [ "$TINY" = 1 ]; then
    part ops 75 "${bench[@]}" ops --sizes 1x4x4 --dtypes bfloat16 --layouts nhwc,nchw --ops tail,R1 --tiers "$tiers" \
        --repeats 1 --sample_ms 0.01 --limit_s 60 --record "$OUT"
    tiny=(--resolution 8 --channels '{4:4,8:4}' --w_dim 8 --mapping_layers 1 --repeats 1 --record "$OUT")
    part "training 8 px" 70 "${bench[@]}" training "${tiny[@]}" --batch 4 --trainings vanilla --tiers "$tier" \
        --cycle weighted
    part inversion 45 "${bench[@]}" inversion "${tiny[@]}" --batches 1,2 --steps 1,1
else
    part ops 75 "${bench[@]}" ops --sizes 64x64x256,32x64x32,16x128x128 --dtypes bfloat16,float32 --layouts nhwc,nchw \
        --tiers "$tiers" --repeats 3 --sample_ms 10 --limit_s 60 --device cuda --record "$OUT"
    training=("${bench[@]}" training --batch 16 --tiers "$tier" --cycle weighted --device cuda --record "$OUT")
    part "training 256 px" 65 "${training[@]}" --resolution 256 --profile --limit_s 45
    part "training 64 px" 40 "${training[@]}" --resolution 64 --limit_s 27
    part "training 128 px" 40 "${training[@]}" --resolution 128 --limit_s 27
    part inversion 40 "${bench[@]}" inversion --resolution 64 --batches 1,16,64 --steps 30,20,20,30 --repeats 2 \
        --device cuda --record "$OUT"
    part "inversion, CUDA graphs" 25 env RTIL_CUDA_GRAPHS=1 "${bench[@]}" inversion --resolution 64 --batches 1,16 \
        --steps 30,20,20,30 --repeats 2 --device cuda --record "$OUT"
    part "training 256 px, plain cuDNN" 40 "${training[@]}" --resolution 256 --trainings vanilla --limit_s 27 \
        --plain_cudnn
fi
"$PYTHON" -m benchmarks.gpu_summary "$OUT" || exit 1
echo "== done in $SECONDS s: $OUT/summary.md"
! grep -q '"code": \([1-9]\|null\)' "$OUT/parts.jsonl"
