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

template <bool A>
DEVICE void normalise(const bf16* x, const bf16* gain, const bf16* bias, bf16* y, float* stat, int width, float eps,
                      int layer, float* scratch) {
    auto read = [&](int c) { return load<A>(x, c, width); };
    float mean = 0.f;
    if (layer) {
        float sum = 0.f;
        for_packs<A, 2>(width, read, [&](int, const Pack& p) {
#pragma unroll
            for (int i = 0; i < 8; i++) sum += p.v[i];
        });
        mean = block_sum(sum, scratch) / width;
    }
    float square = 0.f;
    for_packs<A, 2>(width, read, [&](int c, const Pack& p) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float d = A || c + i < width ? p.v[i] - mean : 0.f;
            square += d * d;
        }
    });
    float inv_dev = 1.f / sqrtf(block_sum(square, scratch) / width + eps);
    auto with_gain = [&](int c) { return Packs<2>{{load<A>(x, c, width), load<A>(gain, c, width)}}; };
    for_packs<A, 2>(width, with_gain, [&](int c, Packs<2>& both) {
        Pack& p = both.of[0];
#pragma unroll
        for (int i = 0; i < 8; i++) p.v[i] = (p.v[i] - mean) * inv_dev * both.of[1].v[i];
        if (bias) {
            Pack b = load<A>(bias, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) p.v[i] += b.v[i];
        }
        store<A>(y, c, width, p);
    });
    if (threadIdx.x == 0) {
        stat[0] = mean;
        stat[1] = inv_dev;
    }
}

extern "C" __global__ void __launch_bounds__(256)
    row_norm(const bf16* x, const bf16* gain, const bf16* bias, bf16* y, float* stat, int width, float eps, int layer) {
    DYNAMIC_SHARED(shared);
    int64_t t = blockIdx.x, row = t * width;
    BY_ALIGNMENT(width, normalise, x + row, gain, bias, y + row, stat + 2 * t, width, eps, layer, (float*)shared);
}
EXPORT_KERNEL(row_norm)

// sum = skip + f branch, one row
template <bool A>
DEVICE void add_row(const bf16* skip, const bf16* branch, const Dropout& drop, bf16* sum, int width) {
    auto read = [&](int c) { return Packs<2>{{load<A>(skip, c, width), load<A>(branch, c, width)}}; };
    for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
        float f[8];
        factors(f, drop, blockIdx.x, 0, c);
#pragma unroll
        for (int i = 0; i < 8; i++) p.of[0].v[i] += f[i] * p.of[1].v[i];
        store<A>(sum, c, width, p.of[0]);
    });
}

extern "C" __global__ void __launch_bounds__(256)
    row_add_norm(const bf16* skip, const bf16* branch, Dropout drop, bf16* sum, const bf16* gain, const bf16* bias,
                 bf16* y, float* stat, int width, float eps, int layer) {
    DYNAMIC_SHARED(shared);
    int64_t t = blockIdx.x, row = t * width;
    BY_ALIGNMENT(width, add_row, skip + row, branch + row, drop, sum + row, width);
    // each thread reads back only values that it wrote itself
    BY_ALIGNMENT(width, normalise, sum + row, gain, bias, y + row, stat + 2 * t, width, eps, layer, (float*)shared);
}
EXPORT_KERNEL(row_add_norm)

template <bool A>
DEVICE void normalise_bwd(const bf16* x, const bf16* gain, const float* stat, const bf16* dy, const bf16* d_skip,
                          bf16* dx, int width, int layer, float* scratch) {
    const float mean = stat[0], inv_dev = stat[1];
    float sum = 0.f, along = 0.f;
    auto read = [&](int c) {
        return Packs<3>{{load<A>(x, c, width), load<A>(gain, c, width), load<A>(dy, c, width)}};
    };
    for_packs<A, 1>(width, read, [&](int, const Packs<3>& p) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float g = p.of[1].v[i] * p.of[2].v[i]; // 0 beyond the width
            sum += g;
            along += g * (p.of[0].v[i] - mean) * inv_dev;
        }
    });
    along = block_sum(along, scratch) / width;
    sum = layer ? block_sum(sum, scratch) / width : 0.f;
    auto with_skip = [&](int c) {
        Packs<4> p = {{load<A>(x, c, width), load<A>(gain, c, width), load<A>(dy, c, width), {}}};
        if (d_skip) p.of[3] = load<A>(d_skip, c, width);
        return p;
    };
    for_packs<A, 1>(width, with_skip, [&](int c, const Packs<4>& p) {
        Pack out;
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float xhat = (p.of[0].v[i] - mean) * inv_dev;
            out.v[i] = (p.of[1].v[i] * p.of[2].v[i] - sum - xhat * along) * inv_dev + p.of[3].v[i];
        }
        store<A>(dx, c, width, out);
    });
}

extern "C" __global__ void __launch_bounds__(256)
    row_norm_bwd(const bf16* x, const bf16* gain, const float* stat, const bf16* dy, const bf16* d_skip, bf16* dx,
                 int width, int layer) {
    DYNAMIC_SHARED(shared);
    int64_t t = blockIdx.x, row = t * width;
    const bf16* skip = d_skip ? d_skip + row : nullptr;
    BY_ALIGNMENT(width, normalise_bwd, x + row, gain, stat + 2 * t, dy + row, skip, dx + row, width, layer,
                 (float*)shared);
}
EXPORT_KERNEL(row_norm_bwd)
