// The LM head's rows: log p of the labels from f32 logits, and the gradient in the place of the logits.
//
//   lse = log sum exp(z), logp = z[label] - lse              z [rows, vocab] f32
//   d   = coef (exp(z - lse) - [label])                      bf16, in the front half of the row of z
//
// f32 logits, because bf16 ones carry a noise of up to 0.06 in log p at |z| of 16 to 32. The label's entry is
// coef * expm1(logp), so that p - 1 is as exact as log p is (about 1e-6, absolute) and never a difference of rounded
// numbers. Bytes: 4 rows vocab, and 6 backward; floor: bandwidth. One block per row.
// A head that is trained needs the coefficients before its gradient is formed, so there are two kernels with the
// objective in between. For a frozen one `head_unit` does both sweeps with coef = 1 while the row may still lie in L2.
#include "row.cuh"

// The log-sum-exp of a row, in every thread. `scratch` holds 32 floats.
DEVICE float row_lse(const float* row, int vocab, float* scratch) {
    const float NOTHING = bits_to_float(0xff800000u); // minus infinity
    float most = NOTHING, sum = 0.f;
    for (int v = threadIdx.x; v < vocab; v += blockDim.x) {
        float z = load(row + v);
        if (z > most) {
            sum = sum * expf(most - z) + 1.f;
            most = z;
        } else {
            sum += expf(z - most); // NaN goes here and stays
        }
    }
    float all = block_max(most, scratch);
    return all + logf(block_sum(most > NOTHING ? sum * expf(most - all) : sum, scratch));
}

// d over the front of the row. A tile is read whole before its gradient is written over the front of what was read:
// d[v] ends where z[v / 2] ends, which lies in this tile or before it.
DEVICE void write_gradient(float* row, int label, float lse, float logp, float coef, int vocab) {
    bf16* d = (bf16*)row;
    float own = coef * expm1f(logp);
    for (int tile = 0; tile < vocab; tile += blockDim.x) {
        int v = tile + threadIdx.x;
        float z = v < vocab ? load(row + v) : 0.f;
        __syncthreads();
        if (v < vocab) store(d + v, to_bf16(v == label ? own : coef * expf(z - lse)));
        __syncthreads();
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
    float own = load(row + labels[j]) - l; // every thread reads it before the first barrier, behind which it is lost
    if (threadIdx.x == 0) {
        lse[j] = l;
        logp[j] = own;
    }
    write_gradient(row, labels[j], l, own, 1.f, vocab);
}
EXPORT_KERNEL(head_unit)
