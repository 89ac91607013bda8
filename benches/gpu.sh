#!/usr/bin/env bash
# On a machine with a GPU and PyTorch: the parity suite, then openclip and OpenCLIP on PyTorch in turns, and whether 200 losses agree.
#
#   gpu.sh KIT OUT            KIT as benches/gpu_kit.sh packs it; OUT gets tables and logs
#
# DEVICE=cuda, or cpu for a rehearsal · PYTHON=python3 · MODELS · BATCHES · PRECISIONS · STEPS=5 · LOSSES=200
# CUDA_LIBRARIES is a folder with NVRTC where the system's loader does not find it.
set -uo pipefail
kit=$(realpath "$1") out=$(realpath -m "$2") device=${DEVICE:-cuda} steps=${STEPS:-5} losses=${LOSSES:-200}
if [ "$device" = cpu ]; then
    models=${MODELS:-ViT-S-32} batches=${BATCHES:-4} precisions=${PRECISIONS:-fp32}
else
    models=${MODELS:-ViT-B-32 ViT-B-16 ViT-L-14} batches=${BATCHES:-64 256 1024 4096} precisions=${PRECISIONS:-fp32 amp_bf16}
fi
mkdir -p "$out"
# A driver's libraries are the GPU machine's own, whatever C library the programs bring along.
driver=$(ldconfig -p 2> /dev/null | awk '/libcuda.so.1/ { print $NF; exit }')
run() {
    local program=$1
    shift
    if [ -e "$kit/lib/ld-linux-x86-64.so.2" ]; then
        "$kit/lib/ld-linux-x86-64.so.2" --library-path "$kit/lib:${driver%/*}:${CUDA_LIBRARIES:-}" "$kit/$program" "$@"
    else
        LD_LIBRARY_PATH="${CUDA_LIBRARIES:-}:${LD_LIBRARY_PATH:-}" "$kit/$program" "$@"
    fi
}
python=${PYTHON:-python3}
if ! "$python" -c 'import open_clip' 2> /dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --target "$out/python" "$kit"/wheels/*.whl
    export PYTHONPATH="$out/python"
fi
status=0

echo "parity on $device"
OPENCLIP_TEST_DEVICE=$device OPENCLIP_TEST_DATA="$kit/data" run parity --test-threads "${TEST_THREADS:-2}" ${PARITY:-} > "$out/parity.log" 2>&1 || status=1
grep -E '^(test result|test .* FAILED)' "$out/parity.log"

for precision in $precisions; do
    for model in $models; do
        for batch in $batches; do
            name="$model-$precision-$batch"
            run openclip bench --model "$model" --batch "$batch" --precision "$precision" --device "$device" --steps "$steps" \
                --peer "$python" --only "image encode, batch $batch" --only "train step, full context, batch $batch" --json \
                > "$out/$name.json" 2> "$out/$name.log" || status=1
            run openclip info --model "$model" --json > "$out/$model.info" 2> /dev/null
        done
    done
done
"$python" "$kit/gpu.py" table "$out" | tee "$out/table.md" || status=1

# The same run with kernels chosen by measurement and by rule: their rounding differs, what is learned does not.
for level in full minimal; do
    CUBECL_AUTOTUNE_LEVEL=$level run openclip train --model "${LOSS_MODEL:-ViT-S-32}" --dataset-type synthetic --batch-size 8 \
        --train-num-samples $((8 * losses)) --epochs 1 --warmup 10 --workers 1 --device "$device" --precision fp32 --seed 1 \
        --logs "$out/runs" --name "$level" --log-every-n-steps 1 --save-frequency 0 > "$out/losses-$level.log" 2>&1 || status=1
done
"$python" "$kit/gpu.py" losses "$out/runs" || status=1
exit $status
