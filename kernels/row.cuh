// Rows of bf16 in packs of eight, and sums over a block. Every row kernel has one block per row.
#pragma once
#include "prim.cuh"

// Eight adjacent columns of a row, widened.
struct Pack {
    float v[8];
};

// Columns c..c+8 of a row of `width`; zeros beyond it. c is a multiple of 8. If the width is a multiple of 8 too, every
// row is aligned to 16 bytes and one access is enough.
DEVICE Pack load(const bf16* row, int c, int width) {
    Pack p;
    if (width % 8 == 0) {
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
DEVICE void store(bf16* row, int c, int width, const Pack& p) {
    if (width % 8 == 0) {
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

// This thread's packs of a row.
#define FOR_PACKS(c, width) for (int c = threadIdx.x * 8; c < (width); c += blockDim.x * 8)

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
