// Token and position embeddings.
//
//   y[t] = mask * (scale * table[ids[t]] + positions[pos[t]])     [T, width] bf16
//   d_table[ids[t]] += scale * mask * dy[t]                       [vocab, width] f32, in token order
//
// Forward: 2 T width bytes read and written; floor: bandwidth. Backward: one block per token. The block of an id's
// first token owns the id's row and adds the other tokens in order; all other blocks return at once. No sort, no
// atomics, the same bits every time. The search reads T ids per block from L2, which is little beside the head's work
// at any vocabulary.
#include "dropout.cuh"
#include "row.cuh"

template <bool A>
DEVICE void embed_row(const bf16* row, const bf16* at, float scale, const Dropout& drop, bf16* y, int width) {
    auto read = [&](int c) {
        Packs<2> p = {{load<A>(row, c, width), {}}};
        if (at) p.of[1] = load<A>(at, c, width);
        return p;
    };
    for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
        float f[8];
        factors(f, drop, blockIdx.x, 0, c);
#pragma unroll
        for (int i = 0; i < 8; i++) p.of[0].v[i] = (p.of[0].v[i] * scale + p.of[1].v[i]) * f[i];
        store<A>(y, c, width, p.of[0]);
    });
}

extern "C" __global__ void __launch_bounds__(256)
    embed(const uint32_t* ids, const uint32_t* pos, const bf16* table, const bf16* positions, float scale, Dropout drop,
          bf16* y, int width) {
    int64_t t = blockIdx.x;
    const bf16* row = table + (int64_t)ids[t] * width;
    const bf16* at = positions ? positions + (int64_t)pos[t] * width : nullptr;
    BY_ALIGNMENT(width, embed_row, row, at, scale, drop, y + t * width, width);
}
EXPORT_KERNEL(embed)

// `index` is ids or pos. blockDim.x ids are compared at a time; `same` [blockDim.x] marks those that equal the block's
// own.
extern "C" __global__ void __launch_bounds__(256)
    embed_bwd(const uint32_t* index, const bf16* dy, float scale, Dropout drop, float* d_table, int n, int width) {
    DYNAMIC_SHARED(shared);
    int* same = (int*)shared;
    int* earlier = same + blockDim.x;
    int t = blockIdx.x;
    uint32_t own = index[t];
    if (threadIdx.x == 0) *earlier = 0;
    __syncthreads();
    for (int u = threadIdx.x; u < t; u += blockDim.x)
        if (index[u] == own) *earlier = 1; // every writer writes 1
    __syncthreads();
    if (*earlier) return;
    for (int first = t; first < n; first += blockDim.x) {
        int u = first + threadIdx.x;
        __syncthreads();
        same[threadIdx.x] = u < n && index[u] == own;
        __syncthreads();
        for (int k = 0; k < (int)blockDim.x && first + k < n; k++) {
            if (!same[k]) continue;
            int64_t from = (int64_t)(first + k) * width;
            auto read = [&](int c) { return load<false>(dy + from, c, width); };
            for_packs<false, 1>(width, read, [&](int c, const Pack& p) {
                float f[8];
                factors(f, drop, first + k, 0, c);
#pragma unroll
                for (int i = 0; i < 8; i++)
                    if (c + i < width) d_table[(int64_t)own * width + c + i] += scale * f[i] * p.v[i];
            });
        }
    }
}
EXPORT_KERNEL(embed_bwd)
