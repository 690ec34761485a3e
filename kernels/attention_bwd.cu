// The gradient of attention, deterministic: one kernel computes dQ, one computes dK and dV, and nothing uses atomics.
//
//   delta = rowsum(dy * y);  P = exp(s - lse);  dS = scale * P (mask * dy V^T - delta)
//   dQ = dS K;  dK = sum over the group's heads of dS^T Q;  dV = likewise (mask * P)^T dy       all into d_qkv, bf16
//
// FLOPs: 14 dim per visible pair (scores and dy V^T are computed twice), against 10 with f32 atomics on dQ. This is the
// price of reproducible bits, and it saves the f32 buffers that would have to be cleared and converted. Query heads
// that share keys (GQA, MQA) are summed in registers.
#include "attention.cuh"

// delta [T, q]: eight columns per lane; a (token, head) has as many adjacent lanes as it needs, rounded up to a power
// of two.
extern "C" __global__ void __launch_bounds__(256)
    attention_delta(const bf16* y, const bf16* dy, float* delta, int64_t rows, int dim) {
    const int pieces = dim / 8;
    int lanes = 1;
    while (lanes < pieces) lanes *= 2;
    const int64_t row = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / lanes;
    const int piece = threadIdx.x & (lanes - 1);
    float sum = 0.f;
    if (row < rows && piece < pieces) {
        const uint4 a = load_128(y + row * dim + piece * 8), b = load_128(dy + row * dim + piece * 8);
        const uint32_t of_y[4] = {a.x, a.y, a.z, a.w}, of_dy[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float2 u = unpack_bf16x2(of_y[i]), v = unpack_bf16x2(of_dy[i]);
            sum += u.x * v.x + u.y * v.y;
        }
    }
    for (int m = lanes / 2; m > 0; m /= 2) sum += shfl_xor(sum, m);
    if (row < rows && piece == 0) delta[row] = sum;
}
EXPORT_KERNEL(attention_delta)

// dQ. A block owns 64 queries of a head (32 for heads above 128) and iterates over their keys.
template <int D> struct Query {
    static const int WARPS = D <= 128 ? 4 : 2, M = WARPS * 16, N = D <= 128 ? 64 : 32, THREADS = WARPS * 32;
};

template <int D>
DEVICE void attention_dq(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, const bf16* dy,
                         const float* lse, const float* delta, bf16* d_qkv, uint32_t shared) {
    const int M = Query<D>::M, N = Query<D>::N, THREADS = Query<D>::THREADS, KEYS = N / 8;
    const int head = blockIdx.y, warp = threadIdx.x >> 5, m0 = (gridDim.x - 1 - blockIdx.x) * M;
    const int kv = head / (s.q / s.kv);
    const bf16 *q = qkv + (int64_t)head * s.dim, *k = qkv + (int64_t)(s.q + kv) * s.dim, *v = k + (int64_t)s.kv * s.dim;
    const uint32_t sq = shared, sdy = sq + M * pitch(D), sk = sdy + M * pitch(D), sv = sk + N * pitch(D);
    const int first = seg_start[m0], end = m0 + M < s.tokens ? m0 + M : s.tokens;
    const int last_segment = seg_start[end - 1];
    fetch<D, M, THREADS>(sq, q, s.width, m0, s.tokens, s.dim);
    fetch<D, M, THREADS>(sdy, dy + (int64_t)head * s.dim, (int64_t)s.q * s.dim, m0, s.tokens, s.dim);

    int query[2], from[2];
    float l[2], dl[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        query[h] = m0 + warp * 16 + acc_row(h * 2);
        bool inside = query[h] < s.tokens;
        from[h] = inside ? seg_start[query[h]] : 0x7fffffff; // queries beyond the last token see no key
        l[h] = inside ? lse[(int64_t)query[h] * s.q + head] * LOG2E : 0.f;
        dl[h] = inside ? delta[(int64_t)query[h] * s.q + head] : 0.f;
    }
    float dq[D / 8][4];
    clear(dq);
    for (int n0 = first; n0 < end; n0 += N) {
        __syncthreads(); // the previous tiles have been read
        fetch<D, N, THREADS>(sk, k, s.width, n0, s.tokens, s.dim);
        fetch<D, N, THREADS>(sv, v, s.width, n0, s.tokens, s.dim);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        float p[KEYS][4], ds[KEYS][4];
        clear(p);
        times_transposed<D, KEYS>(p, sq, warp * 16, sk);
#pragma unroll
        for (int i = 0; i < KEYS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) p[i][j] = ex2(p[i][j] * s.scale_log2 - l[j >> 1]);
        // unless every query of the block sees the whole tile
        if (n0 + N - 1 > m0 || n0 < last_segment) {
#pragma unroll
            for (int i = 0; i < KEYS; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    int key = n0 + acc_col(i, j), h = j >> 1;
                    if (key > query[h] || key < from[h]) p[i][j] = 0.f;
                }
        }
        clear(ds);
        times_transposed<D, KEYS>(ds, sdy, warp * 16, sv);
        uint32_t bits = drop.threshold ? kept<KEYS>(s, drop, head, m0 + warp * 16, n0, false) : ~0u;
#pragma unroll
        for (int i = 0; i < KEYS; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float mask = bits >> (i * 4 + j) & 1 ? drop.scale : 0.f;
                ds[i][j] = p[i][j] * (mask * ds[i][j] - dl[j >> 1]);
            }
        times<D>(dq, ds, sk, 0);
    }
    put(d_qkv + (int64_t)head * s.dim, s.width, m0 + warp * 16, s.tokens, 0, s.dim, dq, s.scale, s.scale);
}

// dK and dV. A block owns 64 keys of a key head and iterates over the queries that see them, in every query head of the
// group. Scores are computed transposed, so that probabilities are already the left operand of the following products.
// For heads above 128 the block owns 32 keys, and two warps share 16 of them, with half of the columns each.
template <int D> struct Key {
    static const int SPLIT = D <= 128 ? 1 : 2, WARPS = 4, N = WARPS / SPLIT * 16, M = 32, THREADS = WARPS * 32;
};

template <int D>
DEVICE void attention_dkv(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, const bf16* dy,
                          const float* lse, const float* delta, bf16* d_qkv, uint32_t shared) {
    const int M = Key<D>::M, N = Key<D>::N, THREADS = Key<D>::THREADS, SPLIT = Key<D>::SPLIT, QUERIES = M / 8;
    const int COLUMNS = D / SPLIT / 8;
    const int kv = blockIdx.y, warp = threadIdx.x >> 5, n0 = blockIdx.x * N;
    const int row = warp % (Key<D>::WARPS / SPLIT) * 16, column = warp / (Key<D>::WARPS / SPLIT) * (D / SPLIT);
    const bf16 *k = qkv + (int64_t)(s.q + kv) * s.dim, *v = k + (int64_t)s.kv * s.dim;
    const uint32_t sk = shared, sv = sk + N * pitch(D), sq = sv + N * pitch(D), sdy = sq + M * pitch(D);
    fetch<D, N, THREADS>(sk, k, s.width, n0, s.tokens, s.dim);
    fetch<D, N, THREADS>(sv, v, s.width, n0, s.tokens, s.dim);

    const int last = n0 + N < s.tokens ? n0 + N : s.tokens; // behind the last key
    float dk[COLUMNS][4], dv[COLUMNS][4];
    clear(dk);
    clear(dv);
    for (int head = kv * (s.q / s.kv); head < (kv + 1) * (s.q / s.kv); head++) {
        const bf16* q = qkv + (int64_t)head * s.dim;
        // queries see back to their segment's start: once a segment starts after the keys, so do all later segments
        for (int m0 = n0; m0 < s.tokens && (int)seg_start[m0] < last; m0 += M) {
            __syncthreads();
            fetch<D, M, THREADS>(sq, q, s.width, m0, s.tokens, s.dim);
            fetch<D, M, THREADS>(sdy, dy + (int64_t)head * s.dim, (int64_t)s.q * s.dim, m0, s.tokens, s.dim);
            cp_async_commit();
            cp_async_wait<0>();
            __syncthreads();
            float p[QUERIES][4], ds[QUERIES][4];
            clear(p);
            clear(ds);
            times_transposed<D, QUERIES>(p, sk, row, sq);
            times_transposed<D, QUERIES>(ds, sv, row, sdy);
            uint32_t bits = drop.threshold ? kept<QUERIES>(s, drop, head, n0 + row, m0, true) : ~0u;
#pragma unroll
            for (int i = 0; i < QUERIES; i++) {
                int from[2];
                float l[2], dl[2];
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int query = m0 + acc_col(i, h);
                    const bool inside = query < s.tokens;
                    const int64_t at = (int64_t)(inside ? query : m0) * s.q + head;
                    from[h] = inside ? (int)seg_start[query] : 0x7fffffff; // no key sees it
                    l[h] = lse[at] * LOG2E;
                    dl[h] = delta[at];
                }
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    int key = n0 + row + acc_row(j), query = m0 + acc_col(i, j), h = j & 1;
                    const bool seen = key <= query && key >= from[h];
                    const float e = ex2(p[i][j] * s.scale_log2 - l[h]), prob = seen ? e : 0.f;
                    const float mask = bits >> (i * 4 + j) & 1 ? drop.scale : 0.f;
                    ds[i][j] = prob * (mask * ds[i][j] - dl[h]);
                    p[i][j] = prob * mask;
                }
            }
            times<D>(dv, p, sdy, column);
            times<D>(dk, ds, sq, column);
        }
    }
    bf16* out = d_qkv + (int64_t)(s.q + kv) * s.dim;
    put(out, s.width, n0 + row, s.tokens, column, s.dim, dk, s.scale, s.scale);
    put(out + (int64_t)s.kv * s.dim, s.width, n0 + row, s.tokens, column, s.dim, dv, 1.f, 1.f);
}

#define ATTENTION_BWD(D)                                                                                               \
    extern "C" __global__ void __launch_bounds__(Query<D>::THREADS)                                                    \
        attention_dq_##D(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, const bf16* dy,            \
                         const float* lse, const float* delta, bf16* d_qkv) {                                          \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_dq<D>(s, seg_start, qkv, drop, dy, lse, delta, d_qkv, smem_u32(shared));                             \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_dq_##D)                                                                                    \
    extern "C" __global__ void __launch_bounds__(Key<D>::THREADS)                                                      \
        attention_dkv_##D(Heads s, const uint32_t* seg_start, const bf16* qkv, Dropout drop, const bf16* dy,           \
                          const float* lse, const float* delta, bf16* d_qkv) {                                         \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_dkv<D>(s, seg_start, qkv, drop, dy, lse, delta, d_qkv, smem_u32(shared));                            \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_dkv_##D)

ATTENTION_BWD(32)
ATTENTION_BWD(64)
ATTENTION_BWD(80)
ATTENTION_BWD(96)
ATTENTION_BWD(128)
ATTENTION_BWD(192)
ATTENTION_BWD(256)
