// Causal attention of head dim 64 (FlashAttention-2, arXiv 2307.08691, forward), in tiles of 64 queries and 64 keys:
// cp.async double buffers, ldmatrix, mma. Beside the right kernel stand copies with one defect each.
//
// q, k, v, o: [heads, length, 64] bf16; lse: [heads, length]. Grid: tiles of queries x heads; 128 threads; 40 KiB.
#include "prim.cuh"

enum class Defect { none, no_barrier, no_wait, never_waits, shared_past_end, wrong_fragment };

constexpr int TILE = 64, DIM = 64, TILE_BYTES = TILE * DIM * 2;
constexpr float NEVER = -1e30f;

// Byte of 16-byte chunk `chunk` of a row; the exchange keeps the eight rows of an 8x8 matrix in different banks.
DEVICE uint32_t place(int row, int chunk) { return (uint32_t)(row * DIM * 2 + ((chunk ^ (row & 7)) << 4)); }

DEVICE void copy_tile(uint32_t to, const bf16* from, int first, int length) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int piece = threadIdx.x + i * 128, row = piece / 8, chunk = piece % 8;
        const bool inside = first + row < length;
        cp_async16(to + place(row, chunk), from + (int64_t)(inside ? first + row : 0) * DIM + chunk * 8, inside);
    }
}

template <Defect defect>
DEVICE void attention(const bf16* q, const bf16* k, const bf16* v, bf16* o, float* lse, int length, float scale_log2) {
    constexpr bool waits = defect != Defect::no_wait && defect != Defect::never_waits;
    DYNAMIC_SHARED(shared);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, first = blockIdx.x * TILE;
    const int64_t head = (int64_t)blockIdx.y * length;
    q += head * DIM, k += head * DIM, v += head * DIM, o += head * DIM, lse += head;
    const uint32_t q_tile = smem_u32(shared), k_tiles = q_tile + TILE_BYTES, v_tiles = k_tiles + 2 * TILE_BYTES;
    const int tiles = min((length + TILE - 1) / TILE, (int)blockIdx.x + 1);

    copy_tile(q_tile, q, first, length);
    copy_tile(k_tiles, k, 0, length);
    cp_async_commit();
    copy_tile(v_tiles, v, 0, length);
    cp_async_commit();

    float out[8][4] = {}, most[2] = {NEVER, NEVER}, sum[2] = {0.0f, 0.0f};
    uint32_t query[4][4];
    for (int tile = 0; tile < tiles; tile++) {
        const uint32_t k_tile = k_tiles + tile % 2 * TILE_BYTES, v_tile = v_tiles + tile % 2 * TILE_BYTES;
        if constexpr (waits) cp_async_wait<1>(); // the values may still be under way
        if constexpr (defect != Defect::no_barrier) __syncthreads();
        if (tile == 0) {
#pragma unroll
            for (int kk = 0; kk < 4; kk++) {
                const uint32_t rows = q_tile + place(warp * 16 + lane % 16, kk * 2 + lane / 16);
                ldmatrix_x4(query[kk], rows); // planted: no_barrier
            }
        }
        if (tile + 1 < tiles) copy_tile(k_tiles + (tile + 1) % 2 * TILE_BYTES, k, (tile + 1) * TILE, length);
        cp_async_commit();

        float score[8][4] = {};
#pragma unroll
        for (int kk = 0; kk < 4; kk++)
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t b[4];
                ldmatrix_x4(b, k_tile + place(n * 16 + lane / 16 * 8 + lane % 8, kk * 2 + lane / 8 % 2));
                mma_bf16_16816(score[n * 2], query[kk], b[0], b[1]);
                mma_bf16_16816(score[n * 2 + 1], query[kk], b[2], defect == Defect::wrong_fragment ? b[1] : b[3]);
            }
        const int row = first + warp * 16 + lane / 4;
#pragma unroll
        for (int n = 0; n < 8; n++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int key = tile * TILE + n * 8 + lane % 4 * 2 + j % 2;
                score[n][j] = key >= length || key > row + j / 2 * 8 ? NEVER : score[n][j] * scale_log2;
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float top = most[h];
#pragma unroll
            for (int n = 0; n < 8; n++) top = fmaxf(top, fmaxf(score[n][h * 2], score[n][h * 2 + 1]));
            top = fmaxf(top, shfl_xor(top, 1));
            top = fmaxf(top, shfl_xor(top, 2));
            const float shrink = ex2(most[h] - top);
            most[h] = top;
            float part = 0.0f;
#pragma unroll
            for (int n = 0; n < 8; n++) {
                score[n][h * 2] = ex2(score[n][h * 2] - top);
                score[n][h * 2 + 1] = ex2(score[n][h * 2 + 1] - top);
                part += score[n][h * 2] + score[n][h * 2 + 1];
                out[n][h * 2] *= shrink;
                out[n][h * 2 + 1] *= shrink;
            }
            part += shfl_xor(part, 1);
            part += shfl_xor(part, 2);
            sum[h] = sum[h] * shrink + part;
        }
        if constexpr (waits) cp_async_wait<1>(); // the values are here
        __syncthreads();
        if (tile + 1 < tiles) copy_tile(v_tiles + (tile + 1) % 2 * TILE_BYTES, v, (tile + 1) * TILE, length);
        cp_async_commit();
        const uint32_t beyond = defect == Defect::shared_past_end ? 2 * TILE_BYTES : 0;
#pragma unroll
        for (int kk = 0; kk < 4; kk++) {
            const uint32_t a[4] = {pack_bf16x2(score[2 * kk][0], score[2 * kk][1]),
                                   pack_bf16x2(score[2 * kk][2], score[2 * kk][3]),
                                   pack_bf16x2(score[2 * kk + 1][0], score[2 * kk + 1][1]),
                                   pack_bf16x2(score[2 * kk + 1][2], score[2 * kk + 1][3])};
#pragma unroll
            for (int n = 0; n < 4; n++) {
                uint32_t b[4];
                const int value = kk * 16 + lane % 8 + lane / 8 % 2 * 8;
                ldmatrix_x4_trans(b, v_tile + beyond + place(value, n * 2 + lane / 16)); // planted: shared_past_end
                mma_bf16_16816(out[n * 2], a, b[0], b[1]);
                mma_bf16_16816(out[n * 2 + 1], a, b[2], b[3]);
            }
        }
    }
    if constexpr (defect == Defect::no_wait) cp_async_wait<0>();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int row = first + warp * 16 + lane / 4 + h * 8;
        if (row >= length) continue;
        const float inverse = 1.0f / sum[h];
#pragma unroll
        for (int n = 0; n < 8; n++)
            store((uint32_t*)(o + (int64_t)row * DIM + n * 8 + lane % 4 * 2),
                  pack_bf16x2(out[n][h * 2] * inverse, out[n][h * 2 + 1] * inverse));
        if (lane % 4 == 0) store(lse + row, (most[h] + lg2(sum[h])) * 0.6931471805599453f);
    }
}

#define ATTENTION(name, defect)                                                                                        \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        name(const bf16* q, const bf16* k, const bf16* v, bf16* o, float* lse, int length, float scale_log2) {         \
        attention<Defect::defect>(q, k, v, o, lse, length, scale_log2);                                                \
    }                                                                                                                  \
    EXPORT_KERNEL(name)

ATTENTION(test_attention, none)
ATTENTION(test_attention_no_barrier, no_barrier)
ATTENTION(test_attention_no_wait, no_wait)
ATTENTION(test_attention_never_waits, never_waits)
ATTENTION(test_attention_shared_past_end, shared_past_end)
ATTENTION(test_attention_wrong_fragment, wrong_fragment)
