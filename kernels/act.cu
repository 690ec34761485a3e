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

template <bool A> DEVICE void act_row(const bf16* x, bf16* y, int width, int kind) {
    const int64_t t = blockIdx.x;
    if (kind == SWIGLU) {
        // gate and up are columns of one row: if the width is not a multiple of 8, up is not aligned to 16 bytes
        const bf16 *gate = x + t * 2 * width, *up = gate + width;
        auto read = [&](int c) { return Packs<2>{{load<A>(gate, c, width), load<A>(up, c, width)}}; };
        for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
            Pack &g = p.of[0], &u = p.of[1];
#pragma unroll
            for (int i = 0; i < 8; i++) g.v[i] = g.v[i] / (1.f + expf(-g.v[i])) * u.v[i];
            store<A>(y + t * width, c, width, g);
        });
    } else {
        auto read = [&](int c) { return load<A>(x + t * width, c, width); };
        for_packs<A, 2>(width, read, [&](int c, Pack& p) {
#pragma unroll
            for (int i = 0; i < 8; i++) p.v[i] = gelu(kind, p.v[i]).value;
            store<A>(y + t * width, c, width, p);
        });
    }
}

extern "C" __global__ void __launch_bounds__(256) act(const bf16* x, bf16* y, int width, int kind) {
    BY_ALIGNMENT(width, act_row, x, y, width, kind);
}
EXPORT_KERNEL(act)

template <bool A> DEVICE void act_bwd_row(const bf16* x, const bf16* dy, bf16* dx, int width, int kind) {
    const int64_t t = blockIdx.x;
    const bf16* d_row = dy + t * width;
    if (kind == SWIGLU) {
        const bf16 *gate = x + t * 2 * width, *up = gate + width;
        bf16 *d_gate = dx + t * 2 * width, *d_up = d_gate + width;
        auto read = [&](int c) {
            return Packs<3>{{load<A>(gate, c, width), load<A>(up, c, width), load<A>(d_row, c, width)}};
        };
        for_packs<A, 1>(width, read, [&](int c, Packs<3>& p) {
            Pack &g = p.of[0], &u = p.of[1], &d = p.of[2], dg, du;
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float sig = 1.f / (1.f + expf(-g.v[i]));
                dg.v[i] = d.v[i] * u.v[i] * sig * (1.f + g.v[i] * (1.f - sig));
                du.v[i] = d.v[i] * g.v[i] * sig;
            }
            store<A>(d_gate, c, width, dg);
            store<A>(d_up, c, width, du);
        });
    } else {
        auto read = [&](int c) { return Packs<2>{{load<A>(x + t * width, c, width), load<A>(d_row, c, width)}}; };
        for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
            Pack& d = p.of[1];
#pragma unroll
            for (int i = 0; i < 8; i++) d.v[i] *= gelu(kind, p.of[0].v[i]).slope;
            store<A>(dx + t * width, c, width, d);
        });
    }
}

extern "C" __global__ void __launch_bounds__(256)
    act_bwd(const bf16* x, const bf16* dy, bf16* dx, int width, int kind) {
    BY_ALIGNMENT(width, act_bwd_row, x, dy, dx, width, kind);
}
EXPORT_KERNEL(act_bwd)
