// Causal attention inside the segments of the packed buffer (FlashAttention-2: Dao 2023), forward.
//
//   y [T, q * dim] bf16, lse [T, q] f32 = log sum exp of the scaled scores
//
// FLOPs: 4 dim per visible pair. Bytes: 2 T (2 q + 2 kv) dim. Floor: tensor cores above a few hundred tokens.
// Choice: 64 queries x 64 keys (x 32 for heads above 128, to fit 99 KB), four warps of 16 queries; tiles cut the packed
// buffer, so that no row is padding. Queries stay in shared memory. K of the next tile is loaded during softmax, V
// during the scores. Keys before the first query's segment are never visited.
#include "attention.cuh"

template <int D> struct Forward {
    static const int M = 64, N = D <= 128 ? 64 : 32, THREADS = 128;
};

template <int D>
DEVICE void attention_fwd(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, bf16* y, float* lse,
                          uint32_t shared) {
    const int M = Forward<D>::M, N = Forward<D>::N, THREADS = Forward<D>::THREADS, KEYS = N / 8;
    const int head = blockIdx.y, warp = threadIdx.x >> 5;
    // the longest rows first, so that the last blocks are short
    const int m0 = (gridDim.x - 1 - blockIdx.x) * M;
    const int kv = head / (s.q / s.kv);
    const bf16 *q = qkv + (int64_t)head * s.dim, *k = qkv + (int64_t)(s.q + kv) * s.dim, *v = k + (int64_t)s.kv * s.dim;
    const uint32_t sq = shared, sk = sq + M * pitch(D), sv = sk + N * pitch(D);
    const int first = seg_start[m0], end = m0 + M < s.tokens ? m0 + M : s.tokens;

    fetch<D, M, THREADS>(sq, q, s.width, m0, s.tokens, s.dim);
    fetch<D, N, THREADS>(sk, k, s.width, first, s.tokens, s.dim);
    cp_async_commit();
    fetch<D, N, THREADS>(sv, v, s.width, first, s.tokens, s.dim);
    cp_async_commit();

    int query[2], from[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        query[h] = m0 + warp * 16 + acc_row(h * 2);
        from[h] = query[h] < s.tokens ? seg_start[query[h]] : 0;
    }
    float acc[D / 8][4], most[2] = {MASKED, MASKED}, total[2] = {0.f, 0.f};
    clear(acc);
    for (int n0 = first; n0 < end; n0 += N) {
        cp_async_wait<1>(); // K has arrived, V may still be loading
        __syncthreads();
        float p[KEYS][4];
        clear(p);
        times_transposed<D, KEYS>(p, sq, warp * 16, sk);
        __syncthreads();
        if (n0 + N < end) fetch<D, N, THREADS>(sk, k, s.width, n0 + N, s.tokens, s.dim);
        cp_async_commit();
#pragma unroll
        for (int i = 0; i < KEYS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = n0 + acc_col(i, j), h = j >> 1;
                const float x = p[i][j] * s.scale_log2;
                p[i][j] = key <= query[h] && key >= from[h] ? x : MASKED;
            }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = most[h];
#pragma unroll
            for (int i = 0; i < KEYS; i++) m = fmaxf(m, fmaxf(p[i][h * 2], p[i][h * 2 + 1]));
            m = fmaxf(m, shfl_xor(m, 1));
            m = fmaxf(m, shfl_xor(m, 2));
            // for a row that has seen no key yet, so that its masked scores become 0 and not 1
            const float shift = m > MASKED ? m : 0.f;
            float shrink = ex2(most[h] - shift), sum = 0.f;
            most[h] = m;
#pragma unroll
            for (int i = 0; i < KEYS; i++)
#pragma unroll
                for (int j = h * 2; j < h * 2 + 2; j++) {
                    p[i][j] = ex2(p[i][j] - shift);
                    sum += p[i][j];
                }
            sum += shfl_xor(sum, 1);
            sum += shfl_xor(sum, 2);
            total[h] = total[h] * shrink + sum;
#pragma unroll
            for (int i = 0; i < D / 8; i++) {
                acc[i][h * 2] *= shrink;
                acc[i][h * 2 + 1] *= shrink;
            }
        }
        if (drop.threshold) {
            uint32_t bits = kept<KEYS>(s, drop, head, m0 + warp * 16, n0, false);
#pragma unroll
            for (int i = 0; i < KEYS; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) p[i][j] *= bits >> (i * 4 + j) & 1 ? drop.scale : 0.f;
        }
        cp_async_wait<1>(); // V has arrived, the next K may still be loading
        __syncthreads();
        times<D>(acc, p, sv, 0);
        __syncthreads();
        if (n0 + N < end) fetch<D, N, THREADS>(sv, v, s.width, n0 + N, s.tokens, s.dim);
        cp_async_commit();
    }
    cp_async_wait<0>();
    // every query sees itself, so a total is 0 only beyond the last token
    float inv[2] = {total[0] > 0.f ? 1.f / total[0] : 0.f, total[1] > 0.f ? 1.f / total[1] : 0.f};
    put(y + (int64_t)head * s.dim, (int64_t)s.q * s.dim, m0 + warp * 16, s.tokens, 0, s.dim, acc, inv[0], inv[1]);
#pragma unroll
    for (int h = 0; h < 2; h++)
        if (query[h] < s.tokens && (threadIdx.x & 3) == 0)
            lse[(int64_t)query[h] * s.q + head] = (most[h] + lg2(total[h])) * LN2;
}

#define ATTENTION_FWD(D)                                                                                               \
    extern "C" __global__ void __launch_bounds__(128)                                                                  \
        attention_fwd_##D(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, bf16* y, float* lse) {    \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_fwd<D>(s, seg_start, qkv, drop, y, lse, smem_u32(shared));                                           \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_fwd_##D)

ATTENTION_FWD(32)
ATTENTION_FWD(64)
ATTENTION_FWD(80)
ATTENTION_FWD(96)
ATTENTION_FWD(128)
ATTENTION_FWD(192)
ATTENTION_FWD(256)
