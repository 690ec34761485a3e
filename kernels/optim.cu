// Gradient clipping (PyTorch's clip_grad_norm_) and AdamW (Loshchilov and Hutter 2019, in PyTorch's order of
// operations) with f32 masters beside bf16 weights.
//
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  g = CLIP * grad
//   master = master (1 - lr decay) - lr / BIAS1 m / (sqrt(v) / sqrt(BIAS2) + eps),  weight = bf16(master)
//
// Bytes per value: 4 for the norm; 4 + 2 * 12 + 2 = 30 for AdamW. Floor: bandwidth.
// Choice: one launch over all tensors. An adapter has hundreds of matrices of a few thousand values, and a launch for
// each would cost more than its work. A table lists the tensors. A block handles `part` values and finds its tensor by
// bisection. Which values a block and a thread add up depends on the lengths alone.
// Tensors are aligned to 256 bytes, so that all but the last len % 8 values move 16 bytes at a time.
#include "optim.cuh"

// A row of the table, as in src/backend/cuda/optim.rs. The norm reads only `grad`, `len` and `first`.
struct Tensor {
    bf16* weight; // [len], as all that follow
    float* master;
    const float* grad;
    float *m, *v;
    int64_t len;
    int64_t first; // first block of the tensor
    uint64_t decays;
};

// The sum over the block in f64, in a fixed order; valid in thread 0. `scratch` [blockDim.x].
DEVICE double block_total(double x, double* scratch) {
    scratch[threadIdx.x] = x;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
        __syncthreads();
    }
    return scratch[0];
}

// partial[block] = sum of squares of the block's values.
extern "C" __global__ void __launch_bounds__(256)
    square_sum(const Tensor* table, int count, int part, double* partial) {
    DYNAMIC_SHARED(shared);
    const Tensor t = own_tensor(table, count);
    const Stretch s = own_stretch(t, part);
    double sum = 0.0;
    auto add = [&sum](float g) { sum += (double)g * g; };
    for (int64_t i = s.from + threadIdx.x * 8; i < s.packed; i += blockDim.x * 8)
#pragma unroll
        for (int k = 0; k < 8; k += 4) {
            float4 g = load((const float4*)(t.grad + i + k));
            add(g.x);
            add(g.y);
            add(g.z);
            add(g.w);
        }
    if (s.packed + threadIdx.x < s.to) add(load(t.grad + s.packed + threadIdx.x));
    sum = block_total(sum, (double*)shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
EXPORT_KERNEL(square_sum)

// scalars[SQ_NORM] = sum of `partial`, scalars[CLIP] = min(1, max_norm / (norm + 1e-6)); no limit if max_norm is 0.
extern "C" __global__ void __launch_bounds__(256) clip_factor(const double* partial, int count, float* scalars) {
    DYNAMIC_SHARED(shared);
    double sum = 0.0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
    sum = block_total(sum, (double*)shared);
    if (threadIdx.x == 0) {
        double most = scalars[MAX_NORM];
        scalars[SQ_NORM] = (float)sum;
        scalars[CLIP] = most > 0.0 ? (float)fmin(most / (sqrt(sum) + 1e-6), 1.0) : 1.f;
    }
}
EXPORT_KERNEL(clip_factor)

// Updates four values; returns their weights as bf16.
DEVICE uint2 advance_four(const Step& k, const Tensor& t, int64_t i) {
    float4 g = load((const float4*)(t.grad + i)), m = load((float4*)(t.m + i)), v = load((float4*)(t.v + i));
    float4 w = load((float4*)(t.master + i));
    advance(k, g.x, m.x, v.x, w.x);
    advance(k, g.y, m.y, v.y, w.y);
    advance(k, g.z, m.z, v.z, w.z);
    advance(k, g.w, m.w, v.w, w.w);
    store((float4*)(t.m + i), m);
    store((float4*)(t.v + i), v);
    store((float4*)(t.master + i), w);
    return {pack_bf16x2(w.x, w.y), pack_bf16x2(w.z, w.w)};
}

extern "C" __global__ void __launch_bounds__(256) adamw(const Tensor* table, int count, int part, const float* scalars,
                                                        Adam adam) {
    if (!finite_norm(scalars)) return;
    const Tensor t = own_tensor(table, count);
    const Stretch s = own_stretch(t, part);
    const Step k = step_of(scalars, adam, t.decays);
    for (int64_t i = s.from + threadIdx.x * 8; i < s.packed; i += blockDim.x * 8) {
        uint2 low = advance_four(k, t, i), high = advance_four(k, t, i + 4);
        store_128(t.weight + i, {low.x, low.y, high.x, high.y});
    }
    const int64_t i = s.packed + threadIdx.x;
    if (i < s.to) {
        float m = load(t.m + i), v = load(t.v + i), w = load(t.master + i);
        advance(k, load(t.grad + i), m, v, w);
        store(t.m + i, m);
        store(t.v + i, v);
        store(t.master + i, w);
        store(t.weight + i, to_bf16(w));
    }
}
EXPORT_KERNEL(adamw)
