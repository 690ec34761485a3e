// RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016), with the residual sum in front.
//
//   sum  = skip + mask * branch                 [n, width] bf16, rounded once: the residual stream
//   y    = (sum - mean) / dev * gain + bias     [n, width] bf16; stat [n, 2] f32 = mean, 1 / dev; RMSNorm: mean = 0
//   dx   = d_skip + (g - mean(g) - xhat mean(g xhat)) / dev with g = gain dy, xhat = (x - mean) / dev
//   d_gain += sum_t dy xhat, d_bias += sum_t dy [width] f32
//
// Bytes: 2 n width per operand. Floor: bandwidth. One block per row; the second and third pass read the row again from
// L1, which is cheaper than holding widths up to 16k in registers. Statistics in f32.
#include "dropout.cuh"
#include "row.cuh"

DEVICE void normalise(const bf16* x, const bf16* gain, const bf16* bias, bf16* y, float* stat, int width, float eps,
                      int layer, float* scratch) {
    float mean = 0.f;
    if (layer) {
        float sum = 0.f;
        FOR_PACKS(c, width) {
            Pack p = load(x, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += p.v[i];
        }
        mean = block_sum(sum, scratch) / width;
    }
    float square = 0.f;
    FOR_PACKS(c, width) {
        Pack p = load(x, c, width);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float d = c + i < width ? p.v[i] - mean : 0.f;
            square += d * d;
        }
    }
    float inv_dev = 1.f / sqrtf(block_sum(square, scratch) / width + eps);
    FOR_PACKS(c, width) {
        Pack p = load(x, c, width), g = load(gain, c, width);
#pragma unroll
        for (int i = 0; i < 8; i++) p.v[i] = (p.v[i] - mean) * inv_dev * g.v[i];
        if (bias) {
            Pack b = load(bias, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) p.v[i] += b.v[i];
        }
        store(y, c, width, p);
    }
    if (threadIdx.x == 0) {
        stat[0] = mean;
        stat[1] = inv_dev;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    row_norm(const bf16* x, const bf16* gain, const bf16* bias, bf16* y, float* stat, int width, float eps, int layer) {
    DYNAMIC_SHARED(shared);
    int64_t t = blockIdx.x;
    normalise(x + t * width, gain, bias, y + t * width, stat + 2 * t, width, eps, layer, (float*)shared);
}
EXPORT_KERNEL(row_norm)

extern "C" __global__ void __launch_bounds__(256)
    row_add_norm(const bf16* skip, const bf16* branch, Dropout drop, bf16* sum, const bf16* gain, const bf16* bias,
                 bf16* y, float* stat, int width, float eps, int layer) {
    DYNAMIC_SHARED(shared);
    int64_t t = blockIdx.x, row = t * width;
    FOR_PACKS(c, width) {
        Pack a = load(skip + row, c, width), b = load(branch + row, c, width);
        float f[8];
        factors(f, drop, t, 0, c);
#pragma unroll
        for (int i = 0; i < 8; i++) a.v[i] += f[i] * b.v[i];
        store(sum + row, c, width, a);
    }
    // each thread reads back only values that it wrote itself
    normalise(sum + row, gain, bias, y + row, stat + 2 * t, width, eps, layer, (float*)shared);
}
EXPORT_KERNEL(row_add_norm)

extern "C" __global__ void __launch_bounds__(256)
    row_norm_bwd(const bf16* x, const bf16* gain, const float* stat, const bf16* dy, const bf16* d_skip, bf16* dx,
                 int width, int layer) {
    DYNAMIC_SHARED(shared);
    float* scratch = (float*)shared;
    int64_t t = blockIdx.x, row = t * width;
    float mean = stat[2 * t], inv_dev = stat[2 * t + 1], sum = 0.f, along = 0.f;
    FOR_PACKS(c, width) {
        Pack px = load(x + row, c, width), pg = load(gain, c, width), pd = load(dy + row, c, width);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float g = pg.v[i] * pd.v[i]; // 0 beyond the width
            sum += g;
            along += g * (px.v[i] - mean) * inv_dev;
        }
    }
    along = block_sum(along, scratch) / width;
    sum = layer ? block_sum(sum, scratch) / width : 0.f;
    FOR_PACKS(c, width) {
        Pack px = load(x + row, c, width), pg = load(gain, c, width), pd = load(dy + row, c, width), out;
#pragma unroll
        for (int i = 0; i < 8; i++) out.v[i] = (pg.v[i] * pd.v[i] - sum - (px.v[i] - mean) * inv_dev * along) * inv_dev;
        if (d_skip) {
            Pack s = load(d_skip + row, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) out.v[i] += s.v[i];
        }
        store(dx + row, c, width, out);
    }
}
EXPORT_KERNEL(row_norm_bwd)
