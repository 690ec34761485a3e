// The gradient of attention for Hopper and heads of 64 and 128, deterministic. attention_bwd.cu explains the
// computation and why it takes two kernels; its attention_delta runs first.
//
// Choice: as in attention_fwd.sm90.cu, two warpgroups compute and a third loads ahead by TMA. dQ: a warpgroup owns 64
// queries and iterates over tiles of 64 keys. dK, dV: a warpgroup owns 64 keys and iterates over the queries that see
// them, in every head of the group; scores are computed transposed, so that probabilities are the left operand of the
// following products. The product that ends a tile is still running when the scores of the next tile are issued.
#include "attention_sm90.cuh"

template <int D>
DEVICE void attention_dq(const TensorMap& qkv, const TensorMap& dy, const Heads& s, const uint32_t* seg_start,
                         const float* lse, const float* delta, bf16* d_qkv, uint32_t shared) {
    const Visit<D, 4, D == 64 ? 4 : 2> visit(shared); // owns q and dy of the first warpgroup, then of the second
    const auto &keys = visit.keys, &values = visit.values;
    visit.init();
    const Own own = own_queries(s, seg_start);

    if (threadIdx.x >= 2 * GROUP) {
        setmaxnreg_dec<LOADER_REGISTERS>();
        if (threadIdx.x != 2 * GROUP) return;
        mbarrier_arrive_expect(visit.owned_full, 4 * tile_bytes<D>());
        for (int g = 0; g < 2; g++) {
            const int column = (own.head + (own.paired ? g : 0)) * s.dim, row = own.block + (own.paired ? 0 : g * ROWS);
            fetch_tile<D>(visit.owned + g * 2 * tile_bytes<D>(), &qkv, visit.owned_full, column, row);
            fetch_tile<D>(visit.owned + (g * 2 + 1) * tile_bytes<D>(), &dy, visit.owned_full, column, row);
        }
        visit.load(qkv, s, own);
        return;
    }

    setmaxnreg_inc<multiplier_registers(1)>();
    const int row0 = own.first + threadIdx.x % GROUP / 32 * 16;
    int query[2], from[2];
    float l[2], dl[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        query[h] = row0 + acc_row(h * 2);
        const bool inside = query[h] < s.tokens;
        from[h] = inside ? seg_start[query[h]] : 0x7fffffff; // queries beyond the last token see no key
        l[h] = inside ? lse[(int64_t)query[h] * s.q + own.head] * LOG2E : 0.f;
        dl[h] = inside ? delta[(int64_t)query[h] * s.q + own.head] : 0.f;
    }
    uint32_t q[D / 16][4], g[D / 16][4], ds[4][4];
    float dq[D / 8][4], p[8][4], dp[8][4];
    clear(dq);
    mbarrier_wait(visit.owned_full, 0);
    left_operand<D>(q, visit.owned + threadIdx.x / GROUP * 2 * tile_bytes<D>());
    left_operand<D>(g, visit.owned + (threadIdx.x / GROUP * 2 + 1) * tile_bytes<D>());

    visit.skip(0, own.begin);
    for (int i = own.begin; i < own.end; i++) {
        keys.wait_full(i);
        values.wait_full(i);
        clear(p);
        clear(dp);
        wgmma_begin(p, dp, q, g);
        scores<D>(p, q, keys.stage(i));
        scores<D>(dp, g, values.stage(i));
        wgmma_end<2>(dq, ds); // the previous tile's addition to dq
        if (i > own.begin) keys.release(i - 1);
        wgmma_end<1>(p, q);
        const int n0 = own.keys + i * ROWS;
#pragma unroll
        for (int e = 0; e < 32; e++) {
            float& x = p[e >> 2][e & 3];
            x = ex2(fmaf(x, s.scale_log2, -l[e >> 1 & 1]));
        }
        if (!own.sees(n0)) {
#pragma unroll
            for (int e = 0; e < 32; e++) {
                const int key = n0 + acc_col(e >> 2, e & 3), h = e >> 1 & 1;
                if (key > query[h] || key < from[h]) p[e >> 2][e & 3] = 0.f;
            }
        }
        pin(p); // before the wait: dy V^T is still running
        wgmma_end<0>(dp, g);
        values.release(i);
#pragma unroll
        for (int e = 0; e < 32; e++) p[e >> 2][e & 3] *= dp[e >> 2][e & 3] - dl[e >> 1 & 1];
        round_to_operand(ds, p);
        wgmma_begin(dq, ds);
        weighted<D>(dq, ds, keys.stage(i));
    }
    wgmma_end<0>(dq);
    if (own.begin < own.end) keys.release(own.end - 1);
    visit.skip(own.end, own.tiles);
    put(d_qkv + (int64_t)own.head * s.dim, s.width, row0, s.tokens, 0, s.dim, dq, s.scale, s.scale);
}

// A stage of dK, dV: a tile of queries, a tile of dy, and for each query lse / ln 2, delta and the start of its
// segment.
template <int D> struct Key {
    static const int STAGES = D == 64 ? 4 : 2;
    // With heads of 64, registers can hold keys and values, and a tile's last operands beside the next scores.
    static const bool ROOM = D == 64;
    static const uint32_t LSE = 2 * tile_bytes<D>(), DELTA = LSE + ROWS * 4, FROM = DELTA + ROWS * 4;
    typedef Ring<STAGES, LSE + 1024> Tiles;
};

template <int D>
DEVICE void attention_dkv(const TensorMap& qkv, const TensorMap& dy, const Heads& s, const uint32_t* seg_start,
                          const float* lse, const float* delta, bf16* d_qkv, uint32_t shared, unsigned char* memory) {
    typedef Key<D> At;
    typedef typename Key<D>::Tiles Tiles;
    const uint32_t owned = shared; // k and v of the first warpgroup, then of the second
    const uint32_t stages = owned + 4 * tile_bytes<D>();
    const Tiles tiles = {stages, stages + Key<D>::STAGES * (At::LSE + 1024)};
    const uint32_t owned_full = tiles.barriers + Tiles::BARRIERS;
    if (threadIdx.x == 0) {
        tiles.init(33); // a warp's lanes with the statistics, and the first lane with the tiles
        mbarrier_init(owned_full, 1);
        mbarrier_fence_init();
    }
    __syncthreads();
    const int kv = blockIdx.y, n0 = blockIdx.x * 2 * ROWS, heads = s.q / s.kv, head0 = kv * heads;
    const int k_column = (s.q + kv) * s.dim, v_column = k_column + s.kv * s.dim;
    // Queries see back to their segment's start: once a segment starts after the keys, so do all later segments.
    auto until = [&](int key) {
        const int last = min(key, s.tokens), lane = threadIdx.x & 31;
        for (int tile = 0;; tile += 32) { // one tile per lane
            const int query = n0 + (tile + lane) * ROWS;
            const uint32_t seen = ballot(query < s.tokens && (int)seg_start[query] < last);
            if (seen != ~0u) return tile + __popc(seen);
        }
    };
    const int per_head = until(n0 + 2 * ROWS);

    if (threadIdx.x >= 2 * GROUP) {
        setmaxnreg_dec<LOADER_REGISTERS>();
        if (threadIdx.x >= 2 * GROUP + 32) return;
        const int lane = threadIdx.x & 31;
        if (lane == 0) {
            mbarrier_arrive_expect(owned_full, 4 * tile_bytes<D>());
            for (int g = 0; g < 2; g++) {
                fetch_tile<D>(owned + g * 2 * tile_bytes<D>(), &qkv, owned_full, k_column, n0 + g * ROWS);
                fetch_tile<D>(owned + (g * 2 + 1) * tile_bytes<D>(), &qkv, owned_full, v_column, n0 + g * ROWS);
            }
        }
        // the lane's two queries of a stage, read one stage ahead: a stage does not wait for them
        float l[2], dl[2];
        int from[2];
        auto read = [&](int i) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int query = n0 + i % per_head * ROWS + lane + h * 32;
                const bool inside = i < heads * per_head && query < s.tokens;
                const int64_t at = (int64_t)query * s.q + head0 + i / per_head;
                l[h] = inside ? lse[at] : 0.f;
                dl[h] = inside ? delta[at] : 0.f;
                from[h] = inside ? (int)seg_start[query] : 0x7fffffff;
            }
        };
        read(0);
        for (int i = 0; i < heads * per_head; i++) {
            const int column = (head0 + i / per_head) * s.dim, m0 = n0 + i % per_head * ROWS;
            tiles.wait_empty(i);
            if (lane == 0) {
                mbarrier_arrive_expect(tiles.full(i), 2 * tile_bytes<D>());
                fetch_tile<D>(tiles.stage(i), &qkv, tiles.full(i), column, m0);
                fetch_tile<D>(tiles.stage(i) + tile_bytes<D>(), &dy, tiles.full(i), column, m0);
            }
            unsigned char* stage = memory + (tiles.stage(i) - shared);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                store((float*)(stage + At::LSE) + lane + h * 32, l[h] * LOG2E);
                store((float*)(stage + At::DELTA) + lane + h * 32, dl[h]);
                store((int*)(stage + At::FROM) + lane + h * 32, from[h]);
            }
            mbarrier_arrive(tiles.full(i));
            read(i + 1);
        }
        return;
    }

    setmaxnreg_inc<multiplier_registers(1)>();
    const int group = threadIdx.x / GROUP, first = n0 + group * ROWS, row0 = first + threadIdx.x % GROUP / 32 * 16;
    // the warpgroup's tiles of a head: the first of them contains its own queries
    const int begin = first < s.tokens ? group : per_head, end = first < s.tokens ? until(first + ROWS) : per_head;
    uint32_t k[D / 16][4], v[D / 16][4], weights[4][4], ds[4][4];
    float dk[D / 8][4], dv[D / 8][4], p[8][4], dp[8][4];
    clear(dk);
    clear(dv);
    mbarrier_wait(owned_full, 0);
    const uint32_t own_keys = owned + group * 2 * tile_bytes<D>(), own_values = own_keys + tile_bytes<D>();
    if constexpr (Key<D>::ROOM) {
        left_operand<D>(k, own_keys);
        left_operand<D>(v, own_values);
    }

    int under_way = -1; // the tile whose products with dy and q are
    auto finish = [&] {
        wgmma_end<0>(dk, dv);
        if (under_way >= 0) tiles.release(under_way);
        under_way = -1;
    };
    for (int i = 0; i < heads * per_head; i++) {
        tiles.wait_full(i);
        if (i % per_head < begin || i % per_head >= end) {
            finish(); // holding a tile while waiting for another could deadlock: held tiles could fill the ring
            tiles.release(i);
            continue;
        }
        const uint32_t queries = tiles.stage(i), gradients = queries + tile_bytes<D>();
        clear(p);
        clear(dp);
        if constexpr (Key<D>::ROOM) {
            wgmma_begin(p, dp, k, v);
            scores<D>(p, k, queries);
            scores<D>(dp, v, gradients);
        } else {
            wgmma_begin(p, dp);
            scores<D>(p, own_keys, queries);
            scores<D>(dp, own_values, gradients);
        }
        wgmma_end<2>(dv, dk, weights, ds);
        if (under_way >= 0) tiles.release(under_way);
        const unsigned char* stage = memory + (queries - shared);
        const int m0 = n0 + i % per_head * ROWS;
        wgmma_end<1>(p);
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const float2 l = load((const float2*)((const float*)(stage + At::LSE) + acc_col(c, 0)));
#pragma unroll
            for (int j = 0; j < 4; j++) p[c][j] = ex2(fmaf(p[c][j], s.scale_log2, j & 1 ? -l.y : -l.x));
        }
        // segments follow one another, so the last query's start is the latest; beyond the last token it is behind all
        const int* starts = (const int*)(stage + At::FROM);
        if ((m0 < first + ROWS - 1) | (load(starts + ROWS - 1) > first)) {
#pragma unroll
            for (int c = 0; c < 8; c++) {
                const int column = acc_col(c, 0);
                const int2 from = load((const int2*)(starts + column));
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    const int key = row0 + acc_row(j), query = m0 + column + (j & 1);
                    if (key > query || key < (j & 1 ? from.y : from.x)) p[c][j] = 0.f;
                }
            }
        }
        round_to_operand(weights, p);
        wgmma_begin(dv, weights);
        weighted<D>(dv, weights, gradients);
        wgmma_end<1>(dp);
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const float2 d = load((const float2*)((const float*)(stage + At::DELTA) + acc_col(c, 0)));
#pragma unroll
            for (int j = 0; j < 4; j++) p[c][j] *= dp[c][j] - (j & 1 ? d.y : d.x);
        }
        round_to_operand(ds, p);
        wgmma_begin(dk, ds);
        weighted<D>(dk, ds, queries);
        under_way = i;
        if constexpr (!Key<D>::ROOM) finish();
    }
    finish();
    bf16* out = d_qkv + (int64_t)(s.q + kv) * s.dim;
    put(out, s.width, row0, s.tokens, 0, s.dim, dk, s.scale, s.scale);
    put(out + (int64_t)s.kv * s.dim, s.width, row0, s.tokens, 0, s.dim, dv, 1.f, 1.f);
}

#define ATTENTION_BWD(D)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS_SM90, 1)                                                      \
        attention_dq_sm90_##D(const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy, Heads s,    \
                              const uint32_t* seg_start, const float* lse, const float* delta, bf16* d_qkv) {          \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_dq<D>(qkv, dy, s, seg_start, lse, delta, d_qkv, smem_u32(shared));                                   \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_dq_sm90_##D)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS_SM90, 1)                                                      \
        attention_dkv_sm90_##D(const __grid_constant__ TensorMap qkv, const __grid_constant__ TensorMap dy, Heads s,   \
                               const uint32_t* seg_start, const float* lse, const float* delta, bf16* d_qkv) {         \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_dkv<D>(qkv, dy, s, seg_start, lse, delta, d_qkv, smem_u32(shared), shared);                          \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_dkv_sm90_##D)

ATTENTION_BWD(64)
ATTENTION_BWD(128)
