#!/usr/bin/env bash
# Packs what benches/gpu.sh needs on a machine that has a GPU and PyTorch but neither Rust nor a network.
#
#   gpu_kit.sh TARGET OUT [LIBRARIES]
#
# TARGET is cargo's target folder, in which these were built, with the device's feature:
#   cargo build --release -p openclip-cli --features cuda
#   cargo test --release -p openclip-tests --features cuda --test parity --no-run
# LIBRARIES is a folder with the C library of another machine that the programs were linked on; without it the GPU machine's own
# is used. OUT gets the programs without symbols, the suite's fixtures and OpenCLIP's wheels, which PyTorch machines lack.
set -euo pipefail
target=$(realpath "$1") out=$(realpath -m "$2") here=$(dirname "$(realpath "$0")")
mkdir -p "$out/wheels"
parity=$(find "$target/release/deps" -maxdepth 1 -name 'parity-*' -type f -perm -u+x -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
[ -n "$parity" ] || { echo "$target/release/deps: no parity-…; build it first" >&2; exit 1; }
strip -o "$out/openclip" "$target/release/openclip"
strip -o "$out/parity" "$parity"
cp -r "$here/../tests/parity/data" "$out/"
cp "$here/gpu.sh" "$here/gpu.py" "$out/"
[ $# -lt 3 ] || cp -rL "$3" "$out/lib"
python3 -m pip download --quiet --no-deps --dest "$out/wheels" open_clip_torch==3.3.0 ftfy wcwidth timm huggingface_hub safetensors
du -sh "$out"
