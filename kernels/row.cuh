// Rows of bf16 in packs of eight, and sums over a block. Every row kernel has one block per row.
#pragma once
#include "prim.cuh"

// Eight adjacent columns of a row, widened.
struct Pack {
    float v[8];
};

// Columns c..c+8 of a row of `width`; zeros beyond it. c is a multiple of 8. ALIGNED: the width is a multiple of 8 too,
// so that rows are aligned to 16 bytes and one access is enough. A branch at this place would keep the loads of several
// packs from being in flight together, so a kernel decides once for all its rows (BY_ALIGNMENT).
template <bool ALIGNED> DEVICE Pack load(const bf16* row, int c, int width) {
    Pack p;
    if constexpr (ALIGNED) {
        uint4 raw = load_128(row + c);
        uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
        for (int i = 0; i < 8; i++) p.v[i] = bits_to_float(i & 1 ? word[i / 2] & 0xffff0000u : word[i / 2] << 16);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) p.v[i] = c + i < width ? to_float(load(row + c + i)) : 0.f;
    }
    return p;
}

// Rounds to nearest even; columns beyond the width are unchanged.
template <bool ALIGNED> DEVICE void store(bf16* row, int c, int width, const Pack& p) {
    if constexpr (ALIGNED) {
        uint4 raw;
        raw.x = pack_bf16x2(p.v[0], p.v[1]);
        raw.y = pack_bf16x2(p.v[2], p.v[3]);
        raw.z = pack_bf16x2(p.v[4], p.v[5]);
        raw.w = pack_bf16x2(p.v[6], p.v[7]);
        store_128(row + c, raw);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (c + i < width) store(row + c + i, to_bf16(p.v[i]));
    }
}

// f<ALIGNED>(...) for rows of this width.
#define BY_ALIGNMENT(width, f, ...) ((width) % 8 == 0 ? f<true>(__VA_ARGS__) : f<false>(__VA_ARGS__))

// Packs of several operands at the same columns.
template <int N> struct Packs {
    Pack of[N];
};

// use(c, read(c)) for the first column c of each of this thread's packs of a row. AHEAD packs are read before the first
// of them is used, so that their loads are in flight together; what unaligned rows need is too much for that.
template <bool ALIGNED, int AHEAD, class R, class U> DEVICE void for_packs(int width, R read, U use) {
    const int step = blockDim.x * 8, N = ALIGNED ? AHEAD : 1;
    for (int first = threadIdx.x * 8; first < width; first += N * step) {
        decltype(read(0)) held[N];
#pragma unroll
        for (int k = 0; k < N; k++)
            if (k == 0 || first + k * step < width) held[k] = read(first + k * step);
#pragma unroll
        for (int k = 0; k < N; k++)
            if (k == 0 || first + k * step < width) use(first + k * step, held[k]);
    }
}

// The sum over the block, in every thread. `scratch` holds 32 floats; the block has whole warps.
DEVICE float block_sum(float x, float* scratch) {
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) x += shfl_xor(x, m);
    __syncthreads(); // threads of the previous call may still read scratch
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = x;
    __syncthreads();
    float sum = 0.f;
    for (int w = 0; w < (int)(blockDim.x >> 5); w++) sum += scratch[w];
    return sum;
}

DEVICE float block_max(float x, float* scratch) {
#pragma unroll
    for (int m = 16; m > 0; m >>= 1) x = fmaxf(x, shfl_xor(x, m));
    __syncthreads();
    if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = x;
    __syncthreads();
    float most = scratch[0];
    for (int w = 1; w < (int)(blockDim.x >> 5); w++) most = fmaxf(most, scratch[w]);
    return most;
}
