#!/bin/sh
# Loader against OpenCLIP's PIL pipeline on a folder of JPEGs: pictures per second and core, and their ratio.
#
#   benches/loader.sh FOLDER_OF_JPEGS
#
# PYTHON names an interpreter with open_clip_torch 3.3.0. Of the rounds, in which both sides take turns, the median counts.
# Not counted on this side is scaling and normalising to f32, which is the device's work here and the CPU's in OpenCLIP;
# the last line shows the rate with it.
set -eu
images=${1:?"usage: $0 FOLDER_OF_JPEGS"}
here=$(dirname "$0")
cd "$here/.."
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
cargo build --quiet --release -p openclip-data --example bench_loader
"${PYTHON:-python3}" benches/compare.py loader --images "$images"
"${PYTHON:-python3}" benches/compare.py loader --images "$images" --train
"$CARGO_TARGET_DIR/release/examples/bench_loader" --images "$images" --workers 1 --float
