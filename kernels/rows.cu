// Row operations: gather, scatter, bias, dropout. Bytes: 2 n width per operand; floor: bandwidth. One block per row.
#include "dropout.cuh"
#include "row.cuh"

// y[i] = x[rows[i]]
extern "C" __global__ void __launch_bounds__(256) gather(const uint32_t* rows, const bf16* x, bf16* y, int width) {
    int64_t i = blockIdx.x, from = rows[i];
    FOR_PACKS(c, width) store(y + i * width, c, width, load(x + from * width, c, width));
}
EXPORT_KERNEL(gather)

// dx[rows[i]] = coef[i] dy[i], with a factor of 1 without `coef`. The rows are distinct; all others have been zeroed.
extern "C" __global__ void __launch_bounds__(256)
    scatter(const uint32_t* rows, const float* coef, const bf16* dy, bf16* dx, int width) {
    int64_t i = blockIdx.x, to = rows[i];
    float k = coef ? coef[i] : 1.f;
    FOR_PACKS(c, width) {
        Pack p = load(dy + i * width, c, width);
#pragma unroll
        for (int e = 0; e < 8; e++) p.v[e] *= k;
        store(dx + to * width, c, width, p);
    }
}
EXPORT_KERNEL(scatter)

// y[t] += alpha * bias
extern "C" __global__ void __launch_bounds__(256) add_bias(bf16* y, const bf16* bias, float alpha, int width) {
    bf16* row = y + (int64_t)blockIdx.x * width;
    FOR_PACKS(c, width) {
        Pack p = load(row, c, width), b = load(bias, c, width);
#pragma unroll
        for (int i = 0; i < 8; i++) p.v[i] += alpha * b.v[i];
        store(row, c, width, p);
    }
}
EXPORT_KERNEL(add_bias)

// y = mask * x, or y += mask * x with `add`
extern "C" __global__ void __launch_bounds__(256) mask_rows(const bf16* x, Dropout drop, bf16* y, int width, int add) {
    int64_t t = blockIdx.x, row = t * width;
    FOR_PACKS(c, width) {
        Pack p = load(x + row, c, width), out = {};
        if (add) out = load(y + row, c, width);
        float f[8];
        factors(f, drop, t, 0, c);
#pragma unroll
        for (int i = 0; i < 8; i++) out.v[i] += f[i] * p.v[i];
        store(y + row, c, width, out);
    }
}
EXPORT_KERNEL(mask_rows)
