// Code shared by forward and backward attention: tiles of the packed buffer in shared memory, and products of tiles by
// tensor cores (mma.sync m16n8k16, sm_80 and up).
//
// Layout: qkv [T, (q + 2 kv) * dim] bf16, all query heads, then keys, then values, as the projection writes it; no
// padding between examples. seg_start [T] is the start of each row's example: a query sees the keys from there to
// itself. Heads are padded with zeros to D columns in shared memory only.
//
// A row of a tile takes D * 2 + 16 bytes: an odd number of 16-byte pieces, so that the eight rows of an ldmatrix lie in
// different banks without a swizzle.
#pragma once
#include "dropout.cuh"
#include "prim.cuh"

struct Heads {
    int64_t width; // columns of the packed buffer
    int tokens, q, kv, dim;
    float scale;      // on the scores
    float scale_log2; // scale / ln 2
};

const float LN2 = 0.6931471805599453f, LOG2E = 1.4426950408889634f;
const float MASKED = -1e30f; // finite, so that differences in a fully masked row are 0, not NaN

// Bytes of a row of a tile.
DEVICE constexpr int pitch(int width) { return width * 2 + 16; }

// Starts copying rows row0.. of `src` (columns 0..dim, rows `stride` apart) to the tile `at`; zeros beyond `limit` and
// dim.
template <int D, int ROWS, int THREADS>
DEVICE void fetch(uint32_t at, const bf16* src, int64_t stride, int row0, int limit, int dim) {
    const int CHUNKS = D / 8;
    for (int i = threadIdx.x; i < ROWS * CHUNKS; i += THREADS) {
        int r = i / CHUNKS, c = i % CHUNKS;
        bool inside = row0 + r < limit && c * 8 < dim;
        const bf16* from = inside ? src + (int64_t)(row0 + r) * stride + c * 8 : src;
        cp_async16(at + r * pitch(D) + c * 16, from, inside);
    }
}

// Operand A [16 rows, 16 k] of a tile at (row, k).
template <int D> DEVICE void operand_a(uint32_t (&frag)[4], uint32_t at, int row, int k) {
    int lane = threadIdx.x & 31;
    ldmatrix_x4(frag, at + (row + (lane & 15)) * pitch(D) + (k + (lane >> 4) * 8) * 2);
}

// Operand B [16 k, 16 n] whose n runs along the tile's rows: the tile transposed.
template <int D> DEVICE void operand_b_of_rows(uint32_t (&frag)[4], uint32_t at, int n, int k) {
    int lane = threadIdx.x & 31;
    ldmatrix_x4(frag, at + (n + ((lane >> 4) << 3) + (lane & 7)) * pitch(D) + (k + ((lane >> 3) & 1) * 8) * 2);
}

// Operand B [16 k, 16 n] whose k runs along the tile's rows.
template <int D> DEVICE void operand_b_of_columns(uint32_t (&frag)[4], uint32_t at, int k, int n) {
    int lane = threadIdx.x & 31;
    ldmatrix_x4_trans(frag, at + (k + (lane & 7) + ((lane >> 3) & 1) * 8) * pitch(D) + (n + (lane >> 4) * 8) * 2);
}

// acc [16, N * 8] += A [16 rows of `x` from `row`, D] Y^T with Y [N * 8 rows of `y`, D].
template <int D, int N> DEVICE void times_transposed(float (&acc)[N][4], uint32_t x, int row, uint32_t y) {
#pragma unroll
    for (int k = 0; k < D; k += 16) {
        uint32_t a[4];
        operand_a<D>(a, x, row, k);
#pragma unroll
        for (int n = 0; n < N; n += 2) {
            uint32_t b[4];
            operand_b_of_rows<D>(b, y, n * 8, k);
            mma_bf16_16816(acc[n], a, b[0], b[1]);
            mma_bf16_16816(acc[n + 1], a, b[2], b[3]);
        }
    }
}

// acc [16, C * 8] += P [16, K * 8] Y, with P rounded to bf16 from accumulators and Y [K * 8 rows, columns from
// `column`].
template <int D, int K, int C> DEVICE void times(float (&acc)[C][4], const float (&p)[K][4], uint32_t y, int column) {
#pragma unroll
    for (int k = 0; k < K; k += 2) {
        uint32_t a[4] = {pack_bf16x2(p[k][0], p[k][1]), pack_bf16x2(p[k][2], p[k][3]),
                         pack_bf16x2(p[k + 1][0], p[k + 1][1]), pack_bf16x2(p[k + 1][2], p[k + 1][3])};
#pragma unroll
        for (int n = 0; n < C; n += 2) {
            uint32_t b[4];
            operand_b_of_columns<D>(b, y, k * 8, column + n * 8);
            mma_bf16_16816(acc[n], a, b[0], b[1]);
            mma_bf16_16816(acc[n + 1], a, b[2], b[3]);
        }
    }
}

template <int N> DEVICE void clear(float (&acc)[N][4]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] = 0.f;
}

// Position of entry (i, j) of an accumulator: its row and column in the tile of 16 rows.
DEVICE int acc_row(int j) { return ((threadIdx.x & 31) >> 2) + (j >> 1) * 8; }
DEVICE int acc_col(int i, int j) { return i * 8 + (threadIdx.x & 3) * 2 + (j & 1); }

// The entries of an accumulator of scores that dropout keeps, one bit each; `transposed` states how entry (i, j) maps
// to a query and a key. This is a loop over entries with one Philox in it; unrolled, it would be most of the kernel.
template <int N>
DEVICE uint32_t kept(const Heads& s, const Dropout& drop, int head, int row0, int col0, bool transposed) {
    static_assert(N * 4 <= 32, "a bit per entry");
    uint32_t bits = 0;
#pragma unroll 1
    for (int e = 0; e < N * 4; e++) {
        int row = row0 + acc_row(e & 3), col = col0 + acc_col(e >> 2, e & 3);
        int query = transposed ? col : row, key = transposed ? row : col;
        if (key <= query && query < s.tokens && factor(drop, query, head, drop.pos[key]) != 0.f) bits |= 1u << e;
    }
    return bits;
}

// Stores accumulators times `factor` to rows row0 + acc_row of a [_, ld] bf16 matrix, columns from `column` below dim.
template <int N>
DEVICE void put(bf16* out, int64_t ld, int row0, int limit, int column, int dim, const float (&acc)[N][4], float low,
                float high) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = row0 + acc_row(h * 2);
        if (row >= limit) continue;
        float f = h ? high : low;
#pragma unroll
        for (int i = 0; i < N; i++) {
            int c = column + acc_col(i, 0); // even, and dim is a multiple of 8
            if (c < dim)
                store((uint32_t*)(out + (int64_t)row * ld + c), pack_bf16x2(acc[i][h * 2] * f, acc[i][h * 2 + 1] * f));
        }
    }
}
