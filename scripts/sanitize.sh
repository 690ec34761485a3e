#!/usr/bin/env bash
# The emulator under sanitizers. Without arguments: the test kernels with AddressSanitizer and UndefinedBehaviorSanitizer,
# then with ThreadSanitizer; what is right must be clean, and each planted defect must be reported at its line.
#
#     scripts/sanitize.sh                      both, in a driver without Rust
#     scripts/sanitize.sh address              one of them (address, thread)
#     scripts/sanitize.sh none                 the same driver without, for times per launch on one host thread
#     scripts/sanitize.sh cargo --test NAME    a Rust test under AddressSanitizer, so all kernels that it launches;
#                                              tests named plain_* make faults on purpose and are left out
#
# Needs g++ with its sanitizers' runtimes, on Linux.
set -euo pipefail
cd "$(dirname "$0")/.."
out=target/sanitize
flags="-std=c++17 -g -O1 -fno-omit-frame-pointer -ffp-contract=off -Wall -Wextra -Wno-psabi -Wno-unknown-pragmas
    -DEYEKERN_EMULATED -Ikernels"
export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-} # stacks of abandoned threads are no leaks
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:${UBSAN_OPTIONS:-}
export TSAN_OPTIONS=halt_on_error=1:atexit_sleep_ms=0:${TSAN_OPTIONS:-}
bad=0

# compile FOLDER FLAGS SOURCE: an object in the folder; one compiler for each core at a time, all of them in $compilers
compile() {
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do sleep 0.05; done
    # shellcheck disable=SC2086
    g++ $flags $2 -x c++ -c "$3" -o "$1/$(basename "$3").o" &
    compilers+=($!)
}

# build NAME CORE_FLAGS KERNEL_FLAGS: the driver with the test kernels, as $out/NAME/driver
build() {
    local folder=$out/$1 source compiler compilers=()
    mkdir -p "$folder"
    rm -f "$folder"/*.o
    for source in kernels/emulator/*.cpp; do compile "$folder" "$2" "$source"; done
    # the driver runs the test kernels alone; the others are for `cargo --test kernels`
    for source in kernels/tests/*.cu kernels/tests/driver.cpp; do compile "$folder" "$3" "$source"; done
    for compiler in "${compilers[@]}"; do wait "$compiler"; done
    # shellcheck disable=SC2086
    g++ $3 "$folder"/*.o -pthread -o "$folder/driver"
}

# Runs without a report and with the right result.
clean() {
    local seed text
    for seed in 0 1 2; do
        if ! text=$("$driver" "$1" "$seed" 2>&1); then
            printf 'FAILED %s, seed %s:\n%s\n' "$1" "$seed" "$text"
            bad=1
            return
        fi
    done
    printf 'clean   %s\n' "$1"
}

# reported KERNEL FILE DEFECT WORDS: a report with these words that names the line marked `planted: DEFECT`.
reported() {
    local line text
    line=$(grep -n "planted: $3\$" "kernels/tests/$2" | cut -d: -f1)
    text=$("$driver" "$1" 0 2>&1) || true
    if grep -q "$4" <<<"$text" && grep -q "$2:$line" <<<"$text"; then
        printf 'noticed %s: %s at %s:%s\n' "$1" "$4" "$2" "$line"
    else
        printf 'MISSED  %s: expected "%s" at %s:%s in\n%s\n' "$1" "$4" "$2" "$line" "$text"
        bad=1
    fi
}

good() {
    clean test_rmsnorm
    clean test_attention
    clean test_gemm_sm90
}

address() {
    build address "-fsanitize=address,undefined" "-fsanitize=address,undefined"
    driver=$out/address/driver
    good
    reported test_rmsnorm_shared_past_end reduce.cu shared_past_end "AddressSanitizer: use-after-poison"
    reported test_rmsnorm_global_past_end_raw reduce.cu global_past_end_raw "AddressSanitizer: use-after-poison"
    reported test_rmsnorm_misaligned_raw reduce.cu misaligned_raw "runtime error: .*misaligned address"
}

# The emulator's own code acts for many threads at once: it is not instrumented and must call no watched libc function.
thread() {
    build thread "-DEYEKERN_TSAN -fno-builtin" "-fsanitize=thread"
    driver=$out/thread/driver
    good
    reported test_rmsnorm_no_barrier reduce.cu no_barrier "ThreadSanitizer: data race"
    reported test_attention_no_barrier attention.cu no_barrier "ThreadSanitizer: data race"
    reported test_rmsnorm_blocks_race reduce.cu blocks_race "ThreadSanitizer: data race"
}

none() {
    build none -O2 -O2
    for kernel in test_rmsnorm test_attention test_gemm_sm90; do "$out/none/driver" $kernel 0 1 200; done
}

case "${1:-all}" in
all) address && thread ;;
address | thread | none) "$1" ;;
cargo)
    shift
    target=$(rustc -vV | sed -n 's/^host: //p')
    runner=CARGO_TARGET_$(tr 'a-z-' 'A-Z_' <<<"$target")_RUNNER
    export "$runner=env LD_PRELOAD=$(g++ -print-file-name=libasan.so):$(g++ -print-file-name=libubsan.so)"
    EYEKERN_SANITIZE=address,undefined cargo test --release --locked --features emulator "$@" -- --skip plain_
    ;;
*)
    sed -n '2,11s/^# \?//p' "$0"
    exit 2
    ;;
esac
exit $bad
