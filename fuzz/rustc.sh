#!/bin/sh
# A RUSTC_WRAPPER for the nightly compiler with `--target`: AddressSanitizer, and with COVERAGE=1 what libFuzzer wants, for openclip's own
# crates and those that read strangers' bytes. Burn and the matrix products stay as they are, which take an hour otherwise.
case " $* " in
*" --target "*)
    case "$CARGO_PKG_NAME" in
    openclip-* | parquet | arrow-* | csv | csv-core | tar | zune-* | png | serde_json)
        set -- "$@" -Zsanitizer=address -Cdebug-assertions=yes -Coverflow-checks=yes
        if [ -n "$COVERAGE" ]; then
            set -- "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                -Cllvm-args=-sanitizer-coverage-trace-compares
        fi
        ;;
    esac
    ;;
esac
exec "$@"
