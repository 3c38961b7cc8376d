#!/usr/bin/env bash
# Compiles the core for Windows (mingw-w64) and 64-bit Arm, warnings being errors, and runs the C tests of the
# latter under qemu-aarch64. Threads, file mapping and atomics differ there. A compiler that is not installed
# is skipped with a line saying so; with --strict that is a failure.
set -euo pipefail
cd "$(dirname "$0")/.."
strict=${1:-}
build=${BUILD_DIR:-build/cross}
skipped=0

skip() {
    echo "SKIPPED: $1"
    skipped=1
}

compile() { # toolchain
    cmake -S . -B "$build/$1" --toolchain "cmake/toolchain-$1.cmake" \
        -DPYQWEN_PYTHON=OFF -DPYQWEN_WERROR=ON >"$build/$1.log" 2>&1 || {
        cat "$build/$1.log"
        return 1
    }
    cmake --build "$build/$1" --parallel "$(nproc)"
    echo "$1: compiled"
}

mkdir -p "$build"
if command -v x86_64-w64-mingw32-gcc >/dev/null; then
    compile mingw-w64
else
    skip "Windows: x86_64-w64-mingw32-gcc is missing (apt-get install gcc-mingw-w64-x86-64)"
fi
if command -v aarch64-linux-gnu-gcc >/dev/null; then
    compile aarch64
    if command -v qemu-aarch64 >/dev/null; then
        ctest --test-dir "$build/aarch64" --output-on-failure --parallel "$(nproc)"
    else
        skip "the C tests on Arm: qemu-aarch64 is missing (apt-get install qemu-user)"
    fi
else
    skip "Arm: aarch64-linux-gnu-gcc is missing (apt-get install gcc-aarch64-linux-gnu)"
fi
if [[ $strict == --strict && $skipped == 1 ]]; then
    exit 1
fi
