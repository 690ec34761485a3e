// Attention probabilities of chosen rows, for diagnostics (forward only; training never forms them).
//
//   probs[i, h, j - start] = softmax_j(scale q_th . k_gj)     t = rows[i], start = seg_start[t], j over start..=t
//   probs[i, h, t - start + 1 ..] = 0
//
// qkv [T, (q + 2 kv) * dim] bf16; rows [n]; seg_start [T]; probs [n, q, keys] f32; g = h / (q / kv). dim is a multiple
// of 8, at most 256. Scores and sums in f32.
//
// Bytes: 2 dim for each key that a row sees, and the same again from L2 for every further query head of its group; 4
// for each probability, written once as a score, then read and written twice. Floor: bandwidth. Few rows are chosen and
// a report waits for the host, so these are dot products: one block per (row, query head), its warps take turns at the
// keys, a lane holds pairs of columns, and the scores wait in their place in device memory. The sums of threads are
// added in one order, so that bits repeat.
#include "attention.cuh"
#include "row.cuh"

const int PAIRS = 4; // columns of a lane, in pairs: 256 / 64

extern "C" __global__ void __launch_bounds__(128)
    attention_probs(Heads s, const uint32_t* rows, const uint32_t* seg_start, const bf16* qkv, float* probs,
                    int64_t keys) {
    DYNAMIC_SHARED(shared);
    float* scratch = (float*)shared; // [32]
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, warps = blockDim.x >> 5;
    int64_t t = rows[blockIdx.x], head = blockIdx.y, start = seg_start[t], seen = t + 1 - start;
    const bf16* query = qkv + t * s.width + head * s.dim;
    const bf16* key = qkv + start * s.width + (s.q + head / (s.q / s.kv)) * s.dim;
    float* out = probs + ((int64_t)blockIdx.x * s.q + head) * keys;

    float2 q[PAIRS];
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
        int c = 2 * lane + 64 * i;
        q[i] = c < s.dim ? unpack_bf16x2(load((const uint32_t*)(query + c))) : make_float2(0.f, 0.f);
    }
    float most = MASKED;
    for (int64_t j = warp; j < seen; j += warps) {
        float score = 0.f;
#pragma unroll
        for (int i = 0; i < PAIRS; i++) {
            int c = 2 * lane + 64 * i;
            if (c >= s.dim) continue;
            float2 k = unpack_bf16x2(load((const uint32_t*)(key + j * s.width + c)));
            score += q[i].x * k.x + q[i].y * k.y;
        }
#pragma unroll
        for (int m = 16; m > 0; m >>= 1) score += shfl_xor(score, m);
        score *= s.scale_log2;
        if (lane == 0) store(out + j, score);
        most = fmaxf(most, score);
    }
    most = block_max(most, scratch); // its barriers also show every thread the scores
    float total = 0.f;
    for (int64_t j = threadIdx.x; j < seen; j += blockDim.x) {
        float p = ex2(load(out + j) - most);
        store(out + j, p);
        total += p;
    }
    total = block_sum(total, scratch);
    for (int64_t j = threadIdx.x; j < keys; j += blockDim.x) store(out + j, j < seen ? load(out + j) / total : 0.f);
}
EXPORT_KERNEL(attention_probs)
