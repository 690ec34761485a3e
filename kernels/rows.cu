// Row operations: gather, scatter, bias, dropout. Bytes: 2 n width per operand; floor: bandwidth. One block per row.
#include "dropout.cuh"
#include "row.cuh"

// y[i] = x[rows[i]]
template <bool A> DEVICE void gather_row(const bf16* from, bf16* to, int width) {
    auto read = [&](int c) { return load<A>(from, c, width); };
    for_packs<A, 2>(width, read, [&](int c, const Pack& p) { store<A>(to, c, width, p); });
}

extern "C" __global__ void __launch_bounds__(256) gather(const uint32_t* rows, const bf16* x, bf16* y, int width) {
    int64_t i = blockIdx.x, from = rows[i];
    BY_ALIGNMENT(width, gather_row, x + from * width, y + i * width, width);
}
EXPORT_KERNEL(gather)

// dx[rows[i]] = coef[i] dy[i], with a factor of 1 without `coef`. The rows are distinct; all others have been zeroed.
template <bool A> DEVICE void scatter_row(const bf16* from, float k, bf16* to, int width) {
    auto read = [&](int c) { return load<A>(from, c, width); };
    for_packs<A, 2>(width, read, [&](int c, Pack& p) {
#pragma unroll
        for (int e = 0; e < 8; e++) p.v[e] *= k;
        store<A>(to, c, width, p);
    });
}

extern "C" __global__ void __launch_bounds__(256)
    scatter(const uint32_t* rows, const float* coef, const bf16* dy, bf16* dx, int width) {
    int64_t i = blockIdx.x, to = rows[i];
    float k = coef ? coef[i] : 1.f;
    BY_ALIGNMENT(width, scatter_row, dy + i * width, k, dx + to * width, width);
}
EXPORT_KERNEL(scatter)

// y[t] += alpha * bias
template <bool A> DEVICE void add_bias_row(bf16* row, const bf16* bias, float alpha, int width) {
    auto read = [&](int c) { return Packs<2>{{load<A>(row, c, width), load<A>(bias, c, width)}}; };
    for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
#pragma unroll
        for (int i = 0; i < 8; i++) p.of[0].v[i] += alpha * p.of[1].v[i];
        store<A>(row, c, width, p.of[0]);
    });
}

extern "C" __global__ void __launch_bounds__(256) add_bias(bf16* y, const bf16* bias, float alpha, int width) {
    bf16* row = y + (int64_t)blockIdx.x * width;
    BY_ALIGNMENT(width, add_bias_row, row, bias, alpha, width);
}
EXPORT_KERNEL(add_bias)

// y = mask * x, or y += mask * x with `add`
template <bool A> DEVICE void mask_row(const bf16* x, const Dropout& drop, bf16* y, int width, int add) {
    const int64_t t = blockIdx.x, row = t * width;
    auto read = [&](int c) {
        Packs<2> p = {{load<A>(x + row, c, width), {}}};
        if (add) p.of[1] = load<A>(y + row, c, width);
        return p;
    };
    for_packs<A, 2>(width, read, [&](int c, Packs<2>& p) {
        float f[8];
        factors(f, drop, t, 0, c);
#pragma unroll
        for (int i = 0; i < 8; i++) p.of[1].v[i] += f[i] * p.of[0].v[i];
        store<A>(y + row, c, width, p.of[1]);
    });
}

extern "C" __global__ void __launch_bounds__(256) mask_rows(const bf16* x, Dropout drop, bf16* y, int width, int add) {
    BY_ALIGNMENT(width, mask_row, x, drop, y, width, add);
}
EXPORT_KERNEL(mask_rows)
