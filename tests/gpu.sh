#!/usr/bin/env bash
# All that a machine with a GPU has to say about the CUDA backend, in eight minutes:
#
#     bash tests/gpu.sh                  # into runs/gpu, or $OUT; wants CuPy, PyTorch, pytest and hypothesis
#     bash tests/gpu.sh --rehearse       # the same without a GPU, small, behind the stand-in
#
# Riskier parts come first. A part that fails or takes longer than its limit does not stop the next one. $OUT holds the table
# of parts and the names of tests that failed or did not end (summary.md), all that was printed (log.txt; of a test that takes
# half a minute, where it stands), the benchmarks and the curves of a training run.
set -u
cd "$(dirname "$0")/.."
OUT=$(mkdir -p "${OUT:-runs/gpu}" && cd "${OUT:-runs/gpu}" && pwd)
SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"' EXIT
PYTHON=${PYTHON:-python3}
PYTEST="$PYTHON -m pytest -o addopts= -o faulthandler_timeout=30 -p no:cacheprovider -p tests.backend.cuda.names -q"
TOTAL=${TOTAL:-540}  # seconds for everything at most
export PYTHONPATH="$PWD:${PYTHONPATH:-}" PYTHONUNBUFFERED=1 MPLBACKEND=Agg
export CUPY_TF32=0 NVIDIA_TF32_OVERRIDE=0  # products of float32 in float32, in both libraries
REHEARSE=
[ "${1:-}" = --rehearse ] && REHEARSE=yes
marked=gpu workers=
[ $REHEARSE ] && marked="not gpu"
[ -z $REHEARSE ] && $PYTHON -c "import xdist" 2>/dev/null && workers="-n 8 --dist worksteal"
failed=0
: > "$OUT/log.txt"
printf '| part | result | seconds | last line |\n|---|---|---|---|\n' > "$OUT/summary.md"

# part NAME LIMIT COMMAND...: runs the command, for at most LIMIT seconds.
part() {
    local name=$1 limit=$2 begin=$SECONDS status result last
    shift 2
    [ $((TOTAL - SECONDS)) -lt "$limit" ] && limit=$((TOTAL - SECONDS))
    printf '\n===== %s\n' "$name" >> "$OUT/log.txt"
    if [ "$limit" -lt 5 ]; then
        status=100
    else
        : > "$NAMES"
        timeout -k 5 "$limit" "$@" > "$SCRATCH/part" 2>&1
        status=$?
        cat "$SCRATCH/part" >> "$OUT/log.txt"
    fi
    case $status in
        0) result=passed ;;
        77) result="left out" ;;
        100) result="no time left" failed=1 ;;
        124 | 137) result="no end after $limit s" failed=1 ;;
        *) result="failed ($status)" failed=1 ;;
    esac
    last=$(tail -n 1 "$SCRATCH/part" 2>/dev/null | tr -d '|' | cut -c 1-110)
    printf '| %s | %s | %s | %s |\n' "$name" "$result" $((SECONDS - begin)) "$last" | tee -a "$OUT/summary.md"
    cat "$NAMES" >> "$SCRATCH/names"
    : > "$SCRATCH/part"
}

# tests NAME LIMIT "OPTIONS" FILE...: runs test files of tests/backend/cuda.
tests() {
    local name=$1 limit=$2 options=$3
    shift 3
    part "$name" "$limit" $PYTEST --tb=short -rfE $options -m "$marked" $(printf 'tests/backend/cuda/test_%s.py ' "$@")
}

versions() {
    nvidia-smi
    [ $REHEARSE ] && exec $PYTEST tests/backend/cuda/test_nvrtc.py -k "sm_90 or sm_75"
    exec $PYTHON -m tests.backend.cuda.versions
}

sanitizer() {
    local status=0 tool
    if [ $REHEARSE ]; then exec $PYTHON -m tests.backend.cuda.few_kernels --rehearse; fi
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed"; exit 77; }
    for tool in racecheck memcheck; do
        compute-sanitizer --tool $tool --error-exitcode 3 $PYTHON -m tests.backend.cuda.few_kernels || status=1
    done
    exit $status
}

benchmarks() {
    if [ $REHEARSE ]; then exec $PYTEST tests/backend/cuda/test_cuda_benchmarks.py; fi
    exec $PYTHON -m tests.benchmarks --device cuda --rounds 1 --seconds 0.4 --keep-going --libraries torch "torch channels last" \
        --out "$OUT/benchmarks" chain step encoding "forward and backward" optimiser
}

libraries() {
    $PYTHON -c "import tyro, tqdm, matplotlib, safetensors, PIL, sklearn" || {
        echo "the examples need more than is installed"; exit 77; }
}

examples() {
    libraries
    exec $PYTEST --tb=short -rfE $workers -m gpu tests/backend/cuda/test_cuda_examples.py
}

prototypical() {
    libraries
    if [ $REHEARSE ]; then
        exec $PYTEST tests/backend/cuda/test_cuda_examples.py -k prototypical
    fi
    $PYTHON -m examples.prototypical_networks --device cuda --steps 200 --episodes 200 --out "$SCRATCH/run" || exit
    cp "$SCRATCH/run/curves.png" "$OUT/prototypical_networks.png"
}

export -f versions sanitizer benchmarks libraries examples prototypical
export OUT PYTHON PYTEST REHEARSE SCRATCH workers NAMES="$SCRATCH/tests"
part "versions, headers, compilation" 60 bash -c versions
tests "arguments of kernels" 40 "$workers" cuda_launch cuda_softmax cuda_optimiser
tests "other kernels" 90 "$workers" cuda_activation cuda_attention cuda_batch_norm cuda_grid_sample cuda_group_norm cuda_layer_norm \
    cuda_matmul cuda_recurrent cuda_windows
tests "cuBLAS and capture" 100 "$workers" cuda_cublas cuda_capture cuda_groups cuda_training
tests "captured steps and 200 replays" 90 "-s" cuda_steps
tests "paths and operations" 90 "$workers" cuda_paths cuda_operations
[ $REHEARSE ] || part "examples" 180 bash -c examples
part "compute-sanitizer" 60 bash -c sanitizer
part "benchmarks" 170 bash -c benchmarks
part "prototypical networks" 60 bash -c prototypical
printf '\nin %s s; everything that was printed is in %s/log.txt\n' $SECONDS "$OUT" | tee -a "$OUT/summary.md"
cat "$SCRATCH/names" >> "$OUT/summary.md"
[ -f "$OUT/benchmarks.md" ] && cat "$OUT/benchmarks.md"
cat "$OUT/summary.md"
exit $failed
