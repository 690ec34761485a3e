//! Planted defects of kernels are noticed.

use super::{
    Run, attention, attention_in, attention_reference, emulator, far, gemm, gemm_reference, message, rmsnorm,
    rmsnorm_reference,
};

/// Wrong under seed 0, and under at least `others` of seven more.
fn differs(run: Run, kernel: &str, reference: &[f64], limit: f64, others: usize) {
    let right = |seed| run(&emulator(seed, 1), kernel).is_ok_and(|y| far(&y, reference) <= limit);
    assert!(!right(0), "{kernel} passes under seed 0");
    let count = (1..8).filter(|&seed| !right(seed)).count();
    assert!(count >= others, "{kernel} is wrong under {count} of 7 seeds");
}

#[test]
fn a_missing_barrier_is_noticed() {
    differs(rmsnorm, "test_rmsnorm_no_barrier", &rmsnorm_reference(), 2e-6, 7);
    differs(attention, "test_attention_no_barrier", &attention_reference(), 4e-3, 7);
}

#[test]
fn a_missing_wait_is_noticed() {
    differs(attention, "test_attention_no_wait", &attention_reference(), 4e-3, 7);
}

#[test]
fn copies_that_no_one_waits_for_are_noticed() {
    let text = message(attention(&emulator(0, 1), "test_attention_never_waits"));
    assert!(text.contains("the thread returns with 12 asynchronous copies that it never waited for"), "{text}");
}

#[test]
fn a_wrong_fragment_is_noticed() {
    differs(attention, "test_attention_wrong_fragment", &attention_reference(), 4e-3, 7);
}

#[test]
fn a_stage_released_too_early_is_noticed() {
    differs(gemm, "test_gemm_sm90_early_release", &gemm_reference(), 5e-5, 7);
}

#[test]
fn a_consumer_that_does_not_wait_is_noticed() {
    let text = message(gemm(&emulator(0, 1), "test_gemm_sm90_no_wait"));
    assert!(text.contains("mbarrier_arrive_expect: all 1 arrivals of this phase have come already"), "{text}");
}

#[test]
fn a_divergent_barrier_is_noticed() {
    for seed in 0..4 {
        let text = message(rmsnorm(&emulator(seed, 1), "test_rmsnorm_divergent_barrier"));
        assert!(text.contains("__syncthreads: divergent barrier: others wait at reduce.cu:"), "{text}");
    }
}

#[test]
fn half_a_warp_cannot_shuffle() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_lost_lane"));
    assert!(text.contains("no thread can go on: 128 wait in __syncthreads at reduce.cu:"), "{text}");
    assert!(text.contains("128 wait in shfl_xor at reduce.cu:"), "{text}");
}

#[test]
fn shared_memory_has_bounds() {
    let text = message(attention(&emulator(0, 1), "test_attention_shared_past_end"));
    assert!(
        text.contains("ldmatrix_x4_trans: 16 bytes at byte 42976 of shared memory are outside its 40960"),
        "{text}"
    );
    // too little was asked for: the values lie at 24576
    let text = message(attention_in(&emulator(0, 1), "test_attention", 16384));
    assert!(text.contains("cp_async16: 16 bytes at byte 24576 of shared memory are outside its 16384"), "{text}");
}

#[test]
fn global_memory_has_bounds() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_global_past_end"));
    assert!(text.contains("load_128: 16 bytes at 0x") && text.contains("at its byte 20000"), "{text}");
    assert!(text.ends_with("block (4, 0, 0), thread (0, 0, 0)"), "{text}");
}

#[test]
fn wide_accesses_are_aligned() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_misaligned"));
    assert!(text.contains("load_128: 16 bytes at 0x") && text.contains("are not aligned to 16; block"), "{text}");
}

#[test]
fn messages_name_the_line() {
    let source = include_str!("../../kernels/tests/attention.cu");
    let line = 1 + source.lines().position(|l| l.contains("planted: shared_past_end")).expect("the defect");
    let text = message(attention(&emulator(0, 1), "test_attention_shared_past_end"));
    assert!(text.starts_with(&format!("test_attention_shared_past_end: attention.cu:{line}: ")), "{text}");
}

// Plain accesses: AddressSanitizer ends the process instead, with the line (scripts/sanitize.sh).

#[test]
fn plain_stores_into_red_zones_are_noticed() {
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_shared_past_end"));
    assert!(text.contains("shared memory was written 0 bytes past the end of its 32 bytes; block ("), "{text}");
    let text = message(rmsnorm(&emulator(0, 1), "test_rmsnorm_global_past_end_raw"));
    assert!(text.contains("global memory was written 8 bytes past the end of an allocation of 20000"), "{text}");
}

#[test]
fn plain_faults_do_not_end_the_process() {
    let text = message(rmsnorm(&emulator(0, 2), "test_rmsnorm_null_pointer"));
    assert!(text.contains("memory fault at address 0x40, after this operation; block ("), "{text}");
    assert!(text.ends_with("thread (77, 0, 0)"), "{text}");
    let text = message(rmsnorm(&emulator(3, 1), "test_rmsnorm_endless_recursion"));
    assert!(text.contains("the thread's stack of 60 KiB overflowed"), "{text}");
}
