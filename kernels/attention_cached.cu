// Attention of new tokens over cached keys and values (generation; forward only).
//
//   cache[at[t]] = qkv[t, q * dim..]                                        a row: all key heads, then all value heads
//   y[t, h]      = sum_j softmax_j(scale q_th . k_gj) v_gj                  j over rows at[t] - pos[t] ..= at[t]
//
// qkv [T, (q + 2 kv) * dim], cache [rows, 2 kv * dim], y [T, q * dim] bf16; pos, at [T]; g = h / (q / kv). dim is a
// multiple of 8, at most 256. Scores, sums and weighted values in f32.
//
// Bytes: 4 kv * dim for each row that a token sees, and the same again from L2 for every further query head of its
// group. Floor: bandwidth. A step has one query per sequence and head, too few rows for a tensor core, so these are dot
// products: one block per (token, query head), its warps take turns at the rows, and a lane holds pairs of columns, so
// that a warp reads a row in whole segments. Each warp keeps a running maximum (Milakov and Gimelshein 2018); the
// results of the warps are added in their order, so that bits repeat. Long prompts use attention_fwd.cu.
#include "attention.cuh"
#include "row.cuh"

template <bool A> DEVICE void copy_row(const bf16* from, bf16* to, int width) {
    auto read = [&](int c) { return load<A>(from, c, width); };
    for_packs<A, 2>(width, read, [&](int c, const Pack& p) { store<A>(to, c, width, p); });
}

extern "C" __global__ void __launch_bounds__(256)
    cache_rows(const uint32_t* at, const bf16* qkv, bf16* cache, int width, int from, int kept) {
    int64_t t = blockIdx.x, to = at[t];
    BY_ALIGNMENT(kept, copy_row, qkv + t * width + from, cache + to * kept, kept);
}
EXPORT_KERNEL(cache_rows)

const int PAIRS = 4; // columns of a lane, in pairs: 256 / 64

extern "C" __global__ void __launch_bounds__(128)
    attention_cached(Heads s, const uint32_t* pos, const uint32_t* at, const bf16* qkv, const bf16* cache, bf16* y) {
    DYNAMIC_SHARED(shared);
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    float* found = (float*)shared; // [warps, 2 + dim]: maximum, sum, weighted values
    int64_t t = blockIdx.x, head = blockIdx.y, kept = 2 * (int64_t)s.kv * s.dim;
    int rows = (int)pos[t] + 1;
    const bf16* query = qkv + t * s.width + head * s.dim;
    const bf16* keys = cache + ((int64_t)at[t] + 1 - rows) * kept + head / (s.q / s.kv) * s.dim;
    const bf16* values = keys + (int64_t)s.kv * s.dim;

    float2 q[PAIRS], sum[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        int c = 2 * lane + 64 * i;
        q[i] = c < s.dim ? unpack_bf16x2(load((const uint32_t*)(query + c))) : make_float2(0.f, 0.f);
        sum[i] = make_float2(0.f, 0.f);
    }
    float most = MASKED, total = 0.f;
    for (int j = warp; j < rows; j += warps) {
        float score = 0.f;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int c = 2 * lane + 64 * i;
            if (c >= s.dim) continue;
            float2 k = unpack_bf16x2(load((const uint32_t*)(keys + j * kept + c)));
            score += q[i].x * k.x + q[i].y * k.y;
        }
#pragma unroll
        for (int m = 16; m > 0; m >>= 1) score += shfl_xor(score, m);
        score *= s.scale_log2;
        float before = most;
        most = fmaxf(most, score);
        float shrink = ex2(before - most), p = ex2(score - most);
        total = total * shrink + p;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int c = 2 * lane + 64 * i;
            if (c >= s.dim) continue;
            float2 v = unpack_bf16x2(load((const uint32_t*)(values + j * kept + c)));
            sum[i].x = sum[i].x * shrink + p * v.x;
            sum[i].y = sum[i].y * shrink + p * v.y;
        }
    }
    float* own = found + warp * (2 + s.dim);
    if (lane == 0) {
        store(own, most);
        store(own + 1, total);
    }
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        int c = 2 * lane + 64 * i;
        if (c >= s.dim) continue;
        store(own + 2 + c, sum[i].x);
        store(own + 3 + c, sum[i].y);
    }
    __syncthreads();
    float highest = MASKED, all = 0.f;
    for (int w = 0; w < warps; w++) highest = fmaxf(highest, load(found + w * (2 + s.dim)));
    for (int w = 0; w < warps; w++) {
        const float* other = found + w * (2 + s.dim);
        all += load(other + 1) * ex2(load(other) - highest);
    }
    for (int c = threadIdx.x; c < s.dim; c += blockDim.x) {
        float out = 0.f;
        for (int w = 0; w < warps; w++) {
            const float* other = found + w * (2 + s.dim);
            out += load(other + 2 + c) * ex2(load(other) - highest);
        }
        store(y + (t * s.q + head) * s.dim + c, to_bf16(out / all));
    }
}
EXPORT_KERNEL(attention_cached)
