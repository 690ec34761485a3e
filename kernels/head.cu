// The rows of the LM head: log p of the labels from f32 logits, and the gradient in the place of the logits.
//
//   lse = log sum exp(z), logp = z[label] - lse              z [rows, vocab] f32
//   d   = coef (exp(z - lse) - [label])                      bf16, in the front half of the row of z
//
// Logits are f32, because bf16 logits have rounding errors of up to 0.06 in log p at |z| of 16 to 32. The label's entry
// is coef * expm1(logp), so that p - 1 is as exact as log p (about 1e-6, absolute) and never a difference of rounded
// numbers. Bytes: 4 rows vocab, and 6 backward; floor: bandwidth. One block per row.
// A trained head needs the coefficients before its gradient is computed, so there are two kernels with the objective in
// between. For a frozen head, `head_unit` does both passes with coef = 1 while the row may still be in L2.
#include "row.cuh"

// Four logits, in one access if every row is aligned to 16 bytes; `beyond` after the end of the vocabulary.
DEVICE float4 load_logits(const float* row, int v, int vocab, float beyond) {
    if (vocab % 4 == 0) return v < vocab ? load((const float4*)(row + v)) : make_float4(beyond, beyond, beyond, beyond);
    float4 z;
    z.x = v < vocab ? load(row + v) : beyond;
    z.y = v + 1 < vocab ? load(row + v + 1) : beyond;
    z.z = v + 2 < vocab ? load(row + v + 2) : beyond;
    z.w = v + 3 < vocab ? load(row + v + 3) : beyond;
    return z;
}

// Loads per thread that are in flight together: enough bytes for the full bandwidth.
const int LOADS = 4;

// The log-sum-exp of a row, in every thread. `scratch` holds 32 floats.
DEVICE float row_lse(const float* row, int vocab, float* scratch) {
    const float NOTHING = bits_to_float(0xff800000u); // minus infinity
    float most = NOTHING, sum = 0.f;
    for (int v = threadIdx.x * 4; v < vocab; v += blockDim.x * 4 * LOADS) {
        float4 z[LOADS];
#pragma unroll
        for (int l = 0; l < LOADS; l++) z[l] = load_logits(row, v + l * blockDim.x * 4, vocab, NOTHING);
        float m = most;
#pragma unroll
        for (int l = 0; l < LOADS; l++) m = fmaxf(m, fmaxf(fmaxf(z[l].x, z[l].y), fmaxf(z[l].z, z[l].w)));
        if (m > most) {
            sum *= expf(most - m);
            most = m;
        }
        // elements beyond the end add 0; a NaN, which maxima ignore, stays in the sum
#pragma unroll
        for (int l = 0; l < LOADS; l++)
            sum += expf(z[l].x - most) + expf(z[l].y - most) + (expf(z[l].z - most) + expf(z[l].w - most));
    }
    float all = block_max(most, scratch);
    return all + logf(block_sum(most > NOTHING ? sum * expf(most - all) : sum, scratch));
}

// Writes d over the front of the row. A tile is read completely before its gradient is written. The gradient of all
// tiles so far takes half the bytes of their logits, so the unread logits lie behind it.
DEVICE void write_gradient(float* row, int label, float lse, float logp, float coef, int vocab) {
    bf16* d = (bf16*)row;
    const float own = coef * expm1f(logp);
    auto gradient = [&](float z, int v) { return v == label ? own : coef * expf(z - lse); };
    for (int tile = 0; tile < vocab; tile += blockDim.x * 4 * LOADS) {
        float4 z[LOADS];
#pragma unroll
        for (int l = 0; l < LOADS; l++) z[l] = load_logits(row, tile + (l * blockDim.x + threadIdx.x) * 4, vocab, 0.f);
        __syncthreads();
#pragma unroll
        for (int l = 0; l < LOADS; l++) {
            const int v = tile + (l * blockDim.x + threadIdx.x) * 4;
            const float g[4] = {gradient(z[l].x, v), gradient(z[l].y, v + 1), gradient(z[l].z, v + 2),
                                gradient(z[l].w, v + 3)};
            if (vocab % 4 == 0) {
                if (v < vocab) store((uint2*)(d + v), make_uint2(pack_bf16x2(g[0], g[1]), pack_bf16x2(g[2], g[3])));
            } else {
#pragma unroll
                for (int i = 0; i < 4; i++)
                    if (v + i < vocab) store(d + v + i, to_bf16(g[i]));
            }
        }
    }
}

extern "C" __global__ void __launch_bounds__(512)
    head_logp(const float* logits, const uint32_t* labels, float* logp, float* lse, int vocab, int first) {
    DYNAMIC_SHARED(shared);
    int64_t j = first + blockIdx.x;
    const float* row = logits + (int64_t)blockIdx.x * vocab;
    float l = row_lse(row, vocab, (float*)shared);
    if (threadIdx.x == 0) {
        lse[j] = l;
        logp[j] = load(row + labels[j]) - l;
    }
}
EXPORT_KERNEL(head_logp)

extern "C" __global__ void __launch_bounds__(512)
    head_dlogits(float* logits, const uint32_t* labels, const float* logp, const float* lse, const float* coef,
                 int vocab, int first) {
    int64_t j = first + blockIdx.x;
    write_gradient(logits + (int64_t)blockIdx.x * vocab, labels[j], lse[j], logp[j], coef[j], vocab);
}
EXPORT_KERNEL(head_dlogits)

// log p, lse and d with coef = 1.
extern "C" __global__ void __launch_bounds__(512)
    head_unit(float* logits, const uint32_t* labels, float* logp, float* lse, int vocab, int first) {
    DYNAMIC_SHARED(shared);
    int64_t j = first + blockIdx.x;
    float* row = logits + (int64_t)blockIdx.x * vocab;
    float l = row_lse(row, vocab, (float*)shared);
    float own = load(row + labels[j]) - l; // read by every thread before the first barrier, then overwritten
    if (threadIdx.x == 0) {
        lse[j] = l;
        logp[j] = own;
    }
    write_gradient(row, labels[j], l, own, 1.f, vocab);
}
EXPORT_KERNEL(head_unit)
