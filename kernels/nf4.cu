// Weights in 4 bits (src/backend/nf4.rs) to bf16: rows of a matrix that are one tensor of a file.
//
//   to[r, c] = level[code i] * absmax(i / block),  i = file_row(r) * cols + c      [rows, cols] bf16
//   absmax(b) = absmax[b], or map[scales[b]] * absmax[b / nested_block] + offset with double quantisation
//
// All in f32, each operation rounded by itself, then to bf16 to nearest even: the values of `Nf4::decode`, rounded.
// Blocks follow the order of the file and may begin inside a row. Two codes are in a byte, the first in the upper half.
// Bytes per value, with blocks of 64: 2 written; read 0.5 for the code and 4 / 64 for absmax = 2.563, or 0.5, 1 / 64
// and 4 / (64 * 256) with double quantisation = 2.516. Floor: bandwidth.
// Choice: one block per row, eight values to a thread: 4 bytes of codes are read and 16 bytes are written at a time. A
// level comes from another lane by a shuffle, which needs no shared memory and has no bank conflicts.
#include "row.cuh"

// A tensor in 4 bits, NESTED with double quantisation.
template <bool NESTED> struct Tensor {
    const uint8_t *codes, *scales;
    const float *absmax, *map;
    float offset;
    int block, nested; // logarithms to base 2 of values in a block, and of blocks that share a scale
};

template <bool NESTED> DEVICE float absmax_of(const Tensor<NESTED>& t, int64_t block) {
    if constexpr (NESTED) {
        float apart = __fmul_rn(load(t.map + load(t.scales + block)), load(t.absmax + (block >> t.nested)));
        return __fadd_rn(apart, t.offset); // a fused multiply-add would round once
    } else {
        return load(t.absmax + block);
    }
}

// The row whose first value is value `row` of the tensor, a value to a thread. `level` is that of code lane % 16. All
// lanes of a warp take part in a shuffle, so those beyond the row repeat its last value.
template <bool NESTED>
DEVICE void decode_values(const Tensor<NESTED>& t, float level, int64_t row, bf16* to, int cols) {
    const int lane = threadIdx.x % 32;
    for (int left = threadIdx.x - lane; left < cols; left += blockDim.x) {
        const int c = left + lane;
        const int64_t i = row + min(c, cols - 1);
        const int pair = load(t.codes + (i >> 1));
        const float of_one = shfl(level, i & 1 ? pair & 15 : pair >> 4);
        const float x = __fmul_rn(of_one, absmax_of(t, i >> t.block));
        if (c < cols) store(to + c, to_bf16(x));
    }
}

// The same for rows of a multiple of eight values, eight to a thread: they are in one block. AHEAD of them are read
// before the first is used, without a branch in between, so that their loads are in flight together.
template <bool NESTED>
DEVICE void decode_packs(const Tensor<NESTED>& t, float level, int64_t row, bf16* to, int cols) {
    constexpr int AHEAD = 2;
    const int step = blockDim.x * 8, lane = threadIdx.x % 32;
    for (int left = (threadIdx.x - lane) * 8; left < cols; left += AHEAD * step) {
        uint32_t codes[AHEAD];
        float absmax[AHEAD];
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            const int64_t i = row + min(left + n * step + lane * 8, cols - 8);
            codes[n] = load((const uint32_t*)(t.codes + (i >> 1)));
            absmax[n] = absmax_of(t, i >> t.block);
        }
#pragma unroll
        for (int n = 0; n < AHEAD; n++) {
            if (n > 0 && left + n * step >= cols) break; // all lanes are beyond the row
            const int c = left + n * step + lane * 8;
            Pack p;
#pragma unroll
            for (int k = 0; k < 8; k++) {
                // bits above the code do not matter: a shuffle takes the lane modulo 32, and lane l + 16 has level l
                const int code = codes[n] >> (k / 2 * 8 + (k % 2 ? 0 : 4));
                p.v[k] = __fmul_rn(shfl(level, code), absmax[n]);
            }
            if (c < cols) store<true>(to, c, cols, p);
        }
    }
}

template <bool NESTED> DEVICE void decode_row(const Tensor<NESTED>& t, float level, int64_t row, bf16* to, int cols) {
    if (cols % 8 == 0)
        decode_packs(t, level, row, to, cols);
    else
        decode_values(t, level, row, to, cols);
}

// Where row r of ours lies in the file, which may have [head, (query, key, value), dim] for [(query, key, value), head,
// dim]; `heads` is 0 where the order is the same.
DEVICE int file_row(int r, int heads, int dim) {
    if (heads == 0) return r;
    int part = r / (heads * dim), head = r / dim % heads;
    return (head * 3 + part) * dim + r % dim;
}

// `scales` and `map` are null without double quantisation; `levels` [16]; `to` is the first row. Whole warps.
extern "C" __global__ void __launch_bounds__(256)
    decode_nf4(const uint8_t* codes, const uint8_t* scales, const float* absmax, const float* map, float offset,
               int block, int nested, const float* levels, bf16* to, int cols, int heads, int dim) {
    const float level = load(levels + threadIdx.x % 16);
    const int64_t row = (int64_t)file_row(blockIdx.x, heads, dim) * cols;
    to += (int64_t)blockIdx.x * cols;
    if (scales)
        decode_row(Tensor<true>{codes, scales, absmax, map, offset, block, nested}, level, row, to, cols);
    else
        decode_row(Tensor<false>{codes, scales, absmax, map, offset, block, nested}, level, row, to, cols);
}
EXPORT_KERNEL(decode_nf4)
