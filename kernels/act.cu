// SwiGLU (Shazeer 2020) on rows [gate | up], and GELU in its tanh and its exact form (Hendrycks and Gimpel 2016).
//
//   y = silu(gate) up or gelu(x)      x [n, fan_in * width], y [n, width] bf16
//
// Bytes: 2 n width (fan_in + 1) forward, 2 n width (2 fan_in + 1) backward; floor: bandwidth. One block per row.
#include "enums.cuh"
#include "row.cuh"

struct Gelu {
    float value, slope;
};

DEVICE Gelu gelu(int kind, float x) {
    if (kind == GELU_ERF) {
        float cdf = 0.5f * (1.f + erff(x * 0.70710678118f)), pdf = 0.3989422804f * expf(-0.5f * x * x);
        return {x * cdf, cdf + x * pdf};
    }
    const float root = 0.7978845608f, cubic = 0.044715f;
    float t = tanhf(root * (x + cubic * x * x * x)), rise = root * (1.f + 3.f * cubic * x * x) * (1.f - t * t);
    return {0.5f * x * (1.f + t), 0.5f * (1.f + t) + 0.5f * x * rise};
}

extern "C" __global__ void __launch_bounds__(256) act(const bf16* x, bf16* y, int width, int kind) {
    int64_t t = blockIdx.x;
    if (kind == SWIGLU) {
        // gate and up are columns of one row: if the width is not a multiple of 8, up is not aligned to 16 bytes
        const bf16 *gate = x + t * 2 * width, *up = gate + width;
        FOR_PACKS(c, width) {
            Pack g = load(gate, c, width), u = load(up, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) g.v[i] = g.v[i] / (1.f + expf(-g.v[i])) * u.v[i];
            store(y + t * width, c, width, g);
        }
    } else {
        FOR_PACKS(c, width) {
            Pack p = load(x + t * width, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) p.v[i] = gelu(kind, p.v[i]).value;
            store(y + t * width, c, width, p);
        }
    }
}
EXPORT_KERNEL(act)

extern "C" __global__ void __launch_bounds__(256)
    act_bwd(const bf16* x, const bf16* dy, bf16* dx, int width, int kind) {
    int64_t t = blockIdx.x;
    if (kind == SWIGLU) {
        const bf16 *gate = x + t * 2 * width, *up = gate + width;
        bf16 *d_gate = dx + t * 2 * width, *d_up = d_gate + width;
        FOR_PACKS(c, width) {
            Pack g = load(gate, c, width), u = load(up, c, width), d = load(dy + t * width, c, width), dg, du;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float sig = 1.f / (1.f + expf(-g.v[i]));
                dg.v[i] = d.v[i] * u.v[i] * sig * (1.f + g.v[i] * (1.f - sig));
                du.v[i] = d.v[i] * g.v[i] * sig;
            }
            store(d_gate, c, width, dg);
            store(d_up, c, width, du);
        }
    } else {
        FOR_PACKS(c, width) {
            Pack p = load(x + t * width, c, width), d = load(dy + t * width, c, width);
#pragma unroll
            for (int i = 0; i < 8; i++) d.v[i] *= gelu(kind, p.v[i]).slope;
            store(dx + t * width, c, width, d);
        }
    }
}
EXPORT_KERNEL(act_bwd)
