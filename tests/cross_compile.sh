#!/usr/bin/env bash
# Compiles the core for Windows (mingw-w64) and 64-bit Arm, warnings being errors, and runs the C tests of the
# latter under qemu-aarch64. Threads, file mapping and atomics differ there; of the kernels on Windows those for
# AVX2 are compiled, whose nests are those of the larger sets, and what the runs of a sampler come to does not
# differ (test_runs, the longest under qemu). A compiler that is not installed is skipped with a line saying so;
# with --strict that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
strict=${1:-}
build=${BUILD_DIR:-build/cross}
skipped=0

skip() {
    echo "SKIPPED: $1"
    skipped=1
}

compile() { # toolchain, further options of cmake
    cmake -S . -B "$build/$1" --toolchain "cmake/toolchain-$1.cmake" \
        -DPYQWEN_PYTHON=OFF -DPYQWEN_WERROR=ON "${@:2}" >"$build/$1.log" 2>&1 || {
        cat "$build/$1.log"
        return 1
    }
    cmake --build "$build/$1" --parallel "$(nproc)"
    echo "$1: compiled"
}

mkdir -p "$build"
if command -v x86_64-w64-mingw32-gcc >/dev/null; then
    compile mingw-w64 -DPQ_COMPILER_HAS_AVX512VNNI=OFF -DPQ_COMPILER_HAS_AVXVNNI=OFF
else
    skip "Windows: x86_64-w64-mingw32-gcc is missing (apt-get install gcc-mingw-w64-x86-64)"
fi
if command -v aarch64-linux-gnu-gcc >/dev/null; then
    compile aarch64
    if command -v qemu-aarch64 >/dev/null; then
        ctest --test-dir "$build/aarch64" --output-on-failure --parallel "$(nproc)" \
            --exclude-regex test_runs
    else
        skip "the C tests on Arm: qemu-aarch64 is missing (apt-get install qemu-user)"
    fi
else
    skip "Arm: aarch64-linux-gnu-gcc is missing (apt-get install gcc-aarch64-linux-gnu)"
fi
if [[ $strict == --strict && $skipped == 1 ]]; then
    exit 1
fi
