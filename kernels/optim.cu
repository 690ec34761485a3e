// Gradient clipping (PyTorch's clip_grad_norm_) and AdamW (Loshchilov and Hutter 2019, in PyTorch's order of
// operations) with f32 masters beside bf16 weights.
//
// Bytes per value: 4 for the norm; 4 + 2 * 12 + 2 = 30 for AdamW. Floor: bandwidth.
#include "prim.cuh"

// Places in `scalars`: src/backend/shapes.rs
enum { LR = 0, BIAS1 = 1, BIAS2 = 2, MAX_NORM = 5, SQ_NORM = 6, CLIP = 7 };

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

// partial[block] = sum of squares of the block's `part` values: the order follows from the length alone.
extern "C" __global__ void __launch_bounds__(256) square_sum(const float* grad, int64_t n, int part, double* partial) {
    DYNAMIC_SHARED(shared);
    int64_t from = (int64_t)blockIdx.x * part, to = from + part < n ? from + part : n;
    double sum = 0.0;
    for (int64_t i = from + threadIdx.x; i < to; i += blockDim.x) sum += (double)grad[i] * grad[i];
    sum = block_total(sum, (double*)shared);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}
EXPORT_KERNEL(square_sum)

// scalars[SQ_NORM] = sum of `partial`, scalars[CLIP] = min(1, max_norm / (norm + 1e-6)); no limit where max_norm is 0.
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

extern "C" __global__ void __launch_bounds__(256)
    adamw(bf16* weight, float* master, const float* grad, float* m, float* v, int64_t n, const float* scalars,
          float beta1, float beta2, float eps, float decay) {
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float lr = scalars[LR], step = lr / scalars[BIAS1], root2 = sqrtf(scalars[BIAS2]);
    float g = grad[i] * scalars[CLIP];
    m[i] = beta1 * m[i] + (1.f - beta1) * g;
    v[i] = beta2 * v[i] + (1.f - beta2) * g * g;
    float w = master[i] * (1.f - lr * decay) - step * m[i] / (sqrtf(v[i]) / root2 + eps);
    master[i] = w;
    weight[i] = to_bf16(w);
}
EXPORT_KERNEL(adamw)
