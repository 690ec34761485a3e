// Causal attention inside the segments of the packed buffer, forward, for Hopper and heads of 64 and 128
// (FlashAttention-3: Shah et al. 2024). attention_fwd.cu defines the computation.
//
// Choice: two warpgroups of 64 queries share tiles of 64 keys, which a third warpgroup loads ahead by TMA. With heads
// of 128, the warpgroup computes the softmax of the next tile's scores while tensor cores weight the current tile's
// values. If heads share keys, the two warpgroups are two heads over the same queries, so that short segments waste no
// more than with tiles of 64. The mask is skipped for tiles that every query of a warpgroup sees completely.
#include "attention_sm90.cuh"

template <int D> struct Forward {
    static const int STAGES = 4, BLOCKS = D == 64 ? 2 : 1;
    // With one block per multiprocessor, registers can hold queries and the scores of the next tile; two blocks of
    // narrow heads fill each other's gaps instead.
    static const bool ROOM = BLOCKS == 1;
};

template <int D>
DEVICE void attention_fwd(const TensorMap& qkv, const Heads& s, const uint32_t* seg_start, bf16* y, float* lse,
                          uint32_t shared) {
    const Visit<D, 2, Forward<D>::STAGES> visit(shared);
    const auto &keys = visit.keys, &values = visit.values;
    visit.init();
    const Own own = own_queries(s, seg_start);

    if (threadIdx.x >= 2 * GROUP) {
        setmaxnreg_dec<LOADER_REGISTERS>();
        if (threadIdx.x != 2 * GROUP) return;
        mbarrier_arrive_expect(visit.owned_full, 2 * tile_bytes<D>());
        for (int g = 0; g < 2; g++)
            fetch_tile<D>(visit.owned + g * tile_bytes<D>(), &qkv, visit.owned_full,
                          (own.head + (own.paired ? g : 0)) * s.dim, own.block + (own.paired ? 0 : g * ROWS));
        visit.load(qkv, s, own);
        return;
    }

    setmaxnreg_inc<multiplier_registers(Forward<D>::BLOCKS)>();
    const int row0 = own.first + threadIdx.x % GROUP / 32 * 16;
    int query[2], from[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        query[h] = row0 + acc_row(h * 2);
        from[h] = query[h] < s.tokens ? seg_start[query[h]] : 0;
    }
    uint32_t q[D / 16][4], weights[4][4];
    float acc[D / 8][4], p[8][4], most[2] = {MASKED, MASKED}, total[2] = {0.f, 0.f}, shrink[2];
    clear(acc);
    mbarrier_wait(visit.owned_full, 0);
    const uint32_t own_queries = visit.owned + threadIdx.x / GROUP * tile_bytes<D>();
    if constexpr (Forward<D>::ROOM) left_operand<D>(q, own_queries);

    // issues the scores of tile i into p, which arrive later
    auto ask = [&](int i) {
        clear(p);
        if constexpr (Forward<D>::ROOM) {
            wgmma_begin(p, q);
            scores<D>(p, q, keys.stage(i));
        } else {
            wgmma_begin(p);
            scores<D>(p, own_queries, keys.stage(i));
        }
    };
    // turns p into the probabilities of tile i, except for a factor per row; `shrink` is the factor on the earlier
    // tiles
    auto softmax = [&](int i) {
        const int n0 = own.keys + i * ROWS;
        if (!own.sees(n0)) {
#pragma unroll
            for (int e = 0; e < 32; e++) {
                int key = n0 + acc_col(e >> 2, e & 3), h = e >> 1 & 1;
                if (key > query[h] || key < from[h]) p[e >> 2][e & 3] = MASKED;
            }
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = most[h];
#pragma unroll
            for (int j = 0; j < 8; j++) m = fmaxf(m, fmaxf(p[j][h * 2], p[j][h * 2 + 1]));
            m = fmaxf(m, shfl_xor(m, 1));
            m = fmaxf(m, shfl_xor(m, 2));
            // for a row that has seen no key yet, so that its masked scores become 0 and not 1
            const float shift = m > MASKED ? -m * s.scale_log2 : 0.f;
            shrink[h] = ex2(fmaf(most[h], s.scale_log2, shift));
            most[h] = m;
            float sum = 0.f;
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int c = h * 2; c < h * 2 + 2; c++) {
                    p[j][c] = ex2(fmaf(p[j][c], s.scale_log2, shift));
                    sum += p[j][c];
                }
            sum += shfl_xor(sum, 1);
            sum += shfl_xor(sum, 2);
            total[h] = total[h] * shrink[h] + sum;
        }
    };
    visit.skip(0, own.begin);
    if (own.begin < own.end) {
        keys.wait_full(own.begin);
        ask(own.begin);
        wgmma_end<0>(p);
        keys.release(own.begin);
        softmax(own.begin);
        round_to_operand(weights, p);
        for (int i = own.begin + 1; i < own.end; i++) {
            keys.wait_full(i);
            values.wait_full(i - 1);
            auto weigh = [&] {
                wgmma_begin(acc, weights);
                weighted<D>(acc, weights, values.stage(i - 1));
            };
            auto weighed = [&] {
                wgmma_end<0>(acc, weights);
                values.release(i - 1);
            };
            if constexpr (Forward<D>::ROOM) {
                ask(i);
                weigh();
                wgmma_end<1>(p);
            } else {
                weigh();
                weighed();
                ask(i);
                wgmma_end<0>(p);
            }
            keys.release(i);
            softmax(i);
            if constexpr (Forward<D>::ROOM) weighed();
#pragma unroll
            for (int c = 0; c < D / 8; c++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[c][j] *= shrink[j >> 1];
            round_to_operand(weights, p);
        }
        values.wait_full(own.end - 1);
        wgmma_begin(acc, weights);
        weighted<D>(acc, weights, values.stage(own.end - 1));
        wgmma_end<0>(acc);
        values.release(own.end - 1);
    }
    visit.skip(own.end, own.tiles);

    // every query sees itself, so a total is 0 only beyond the last token
    float inv[2] = {total[0] > 0.f ? 1.f / total[0] : 0.f, total[1] > 0.f ? 1.f / total[1] : 0.f};
    put(y + (int64_t)own.head * s.dim, (int64_t)s.q * s.dim, row0, s.tokens, 0, s.dim, acc, inv[0], inv[1]);
#pragma unroll
    for (int h = 0; h < 2; h++)
        if (query[h] < s.tokens && (threadIdx.x & 3) == 0)
            lse[(int64_t)query[h] * s.q + own.head] = (most[h] * s.scale_log2 + lg2(total[h])) * LN2;
}

#define ATTENTION_FWD(D)                                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS_SM90, Forward<D>::BLOCKS) attention_fwd_sm90_##D(             \
        const __grid_constant__ TensorMap qkv, Heads s, const uint32_t* seg_start, bf16* y, float* lse) {              \
        DYNAMIC_SHARED(shared);                                                                                        \
        attention_fwd<D>(qkv, s, seg_start, y, lse, smem_u32(shared));                                                 \
    }                                                                                                                  \
    EXPORT_KERNEL(attention_fwd_sm90_##D)

ATTENTION_FWD(64)
ATTENTION_FWD(128)
