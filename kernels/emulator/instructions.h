// The wrappers of prim.cuh and the built-in functions of CUDA, carried out on the host. Each records where the kernel
// called it; those that move memory check it and tell the sanitizers.
#pragma once
#include "emulator.h"

// ---- numbers

DEVICE float bits_to_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
DEVICE uint32_t float_to_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return bits;
}
DEVICE float __uint_as_float(uint32_t bits) { return bits_to_float(bits); }
DEVICE uint32_t __float_as_uint(float x) { return float_to_bits(x); }
DEVICE float __int_as_float(int bits) { return bits_to_float((uint32_t)bits); }
DEVICE int __float_as_int(float x) { return (int)float_to_bits(x); }
DEVICE float to_float(bf16 x) { return bits_to_float((uint32_t)x.bits << 16); }
DEVICE bf16 to_bf16(float x) {
    uint32_t u = float_to_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
    return {(uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}
DEVICE uint32_t pack_bf16x2(float low, float high) { return to_bf16(low).bits | ((uint32_t)to_bf16(high).bits << 16); }
DEVICE float2 unpack_bf16x2(uint32_t pair) { return {bits_to_float(pair << 16), bits_to_float(pair & 0xffff0000u)}; }

namespace emulator {
inline float flush(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x; }
} // namespace emulator
DEVICE float ex2(float x) { return emulator::flush(exp2f(emulator::flush(x))); }
DEVICE float lg2(float x) { return log2f(emulator::flush(x)); }
DEVICE float rsqrt(float x) { return 1.0f / sqrtf(emulator::flush(x)); }
DEVICE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
DEVICE float __fdividef(float x, float y) { return x / y; }
DEVICE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
DEVICE float __fmul_rn(float x, float y) { return x * y; }
DEVICE float __fadd_rn(float x, float y) { return x + y; }
DEVICE uint32_t __umulhi(uint32_t a, uint32_t b) { return (uint32_t)(((uint64_t)a * b) >> 32); }
DEVICE int __popc(uint32_t x) { return __builtin_popcount(x); }
DEVICE int __clz(int x) { return x ? __builtin_clz((uint32_t)x) : 32; }
DEVICE int __ffs(int x) { return __builtin_ffs(x); }

// ---- memory

namespace emulator {
template <class T> inline __attribute__((always_inline)) T read(const T* p) {
    check_anywhere(p, sizeof(T), sizeof(T));
    sanitizer::reads(p, sizeof(T));
    T value;
    memcpy(&value, p, sizeof(T));
    return value;
}
template <class T> inline __attribute__((always_inline)) void write(T* p, T value) {
    check_anywhere(p, sizeof(T), sizeof(T));
    sanitizer::writes(p, sizeof(T));
    memcpy(p, &value, sizeof(T));
}
} // namespace emulator
template <class T> DEVICE T load(const T* p, CALLER) {
    emulator::enter("load", at);
    return emulator::read(p);
}
template <class T> DEVICE void store(T* p, T value, CALLER) {
    emulator::enter("store", at);
    emulator::write(p, value);
}
DEVICE uint4 load_128(const void* p, CALLER) {
    emulator::enter("load_128", at);
    return emulator::read((const uint4*)p);
}
DEVICE void store_128(void* p, uint4 value, CALLER) {
    emulator::enter("store_128", at);
    emulator::write((uint4*)p, value);
}
DEVICE uint4 load_128_streaming(const void* p, CALLER) {
    emulator::enter("load_128_streaming", at);
    emulator::check_global(p, 16, 16);
    return emulator::read((const uint4*)p);
}
template <class T> DEVICE T __ldg(const T* p, CALLER) {
    emulator::enter("__ldg", at);
    return emulator::read(p);
}

DEVICE uint32_t smem_u32(const void* p, CALLER) {
    emulator::enter("smem_u32", at);
    uint64_t offset = (uint64_t)((uintptr_t)p - (uintptr_t)emulator::block.shared);
    if (offset > emulator::block.shared_bytes) emulator::fail("the pointer is not one to shared memory");
    return emulator::SHARED_BASE + (uint32_t)offset;
}

DEVICE float atomicAdd(float* p, float value, CALLER) {
    emulator::enter("atomicAdd", at);
    emulator::check_anywhere(p, 4, 4);
    uint32_t* bits = (uint32_t*)p;
    uint32_t old = __atomic_load_n(bits, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(bits, &old, float_to_bits(bits_to_float(old) + value), false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
    }
    return bits_to_float(old);
}
template <class T> DEVICE T atomicAdd(T* p, T value, CALLER) {
    emulator::enter("atomicAdd", at);
    emulator::check_anywhere(p, sizeof(T), sizeof(T));
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
}
DEVICE void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

// ---- asynchronous copies

DEVICE void cp_async16(uint32_t to, const void* from, bool keep = true, CALLER) {
    emulator::enter("cp_async16", at);
    emulator::sanitizer::writes(emulator::shared(to, 16, 16), 16);
    if (keep) {
        emulator::check_global(from, 16, 16);
        emulator::sanitizer::reads(from, 16);
    }
    emulator::copy_async(to, from, keep);
}
DEVICE void cp_async_commit() { emulator::copy_async_commit(); }
template <int Pending> DEVICE void cp_async_wait(CALLER) {
    emulator::enter("cp_async_wait", at);
    emulator::copy_async_wait(Pending);
}

// ---- between lanes and threads

DEVICE void __syncthreads(CALLER) {
    emulator::enter("__syncthreads", at);
    emulator::barrier(0, 0, true);
}
DEVICE void __syncwarp(CALLER) {
    emulator::enter("__syncwarp", at);
    emulator::warp_collective([](void**) {}, nullptr);
}
DEVICE void named_barrier_sync(int id, int threads, CALLER) {
    emulator::enter("named_barrier_sync", at);
    emulator::barrier(id, (uint32_t)threads, true);
}
DEVICE void named_barrier_arrive(int id, int threads, CALLER) {
    emulator::enter("named_barrier_arrive", at);
    emulator::barrier(id, (uint32_t)threads, false);
}

namespace emulator {
struct Exchange {
    uint32_t value, result;
    int lane; // which lane's value, or the mask of an xor
};
void exchange(void** operands);
void exchange_xor(void** operands);
void vote(void** operands);
template <class T> inline T exchange_bits(WarpOperation operation, T value, int lane) {
    static_assert(sizeof(T) == 4, "lanes exchange 32-bit values");
    Exchange e = {};
    memcpy(&e.value, &value, 4);
    e.lane = lane;
    warp_collective(operation, &e);
    memcpy(&value, &e.result, 4);
    return value;
}
} // namespace emulator

template <class T> DEVICE T shfl(T value, int lane, CALLER) {
    emulator::enter("shfl", at);
    return emulator::exchange_bits(emulator::exchange, value, lane);
}
template <class T> DEVICE T shfl_xor(T value, int mask, CALLER) {
    emulator::enter("shfl_xor", at);
    return emulator::exchange_bits(emulator::exchange_xor, value, mask);
}
DEVICE uint32_t ballot(bool vote, CALLER) {
    emulator::enter("ballot", at);
    return emulator::exchange_bits(emulator::vote, (uint32_t)vote, 0);
}

// ---- tensor cores

DEVICE void ldmatrix_x4(uint32_t (&r)[4], uint32_t row, CALLER) {
    emulator::enter("ldmatrix_x4", at);
    emulator::MatrixRows rows = {(const uint16_t*)emulator::shared(row, 16, 16), r};
    emulator::sanitizer::reads(rows.row, 16);
    emulator::warp_collective(emulator::move_matrices, &rows);
}
DEVICE void ldmatrix_x4_trans(uint32_t (&r)[4], uint32_t row, CALLER) {
    emulator::enter("ldmatrix_x4_trans", at);
    emulator::MatrixRows rows = {(const uint16_t*)emulator::shared(row, 16, 16), r};
    emulator::sanitizer::reads(rows.row, 16);
    emulator::warp_collective(emulator::move_matrices_transposed, &rows);
}
DEVICE void mma_bf16_16816(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, CALLER) {
    emulator::enter("mma_bf16_16816", at);
    emulator::Multiply16816 operands = {d, a, b0, b1};
    emulator::warp_collective(emulator::multiply_16816, &operands);
}
