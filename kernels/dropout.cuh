// Counter-based inverted dropout: the mask of a value is a pure function of its identity, with the same bits as on the
// CPU. A Philox block is computed once per dozens of products.
#pragma once
#include "philox.cuh"

// Passed by value; without dropout, the threshold is 0 and the scale 1.
struct Dropout {
    const uint32_t* key;     // [2]: seed, step
    const uint32_t* pos;     // [T]: position inside the example
    const uint32_t* example; // [T]: identity of the example
    uint32_t threshold;      // p * 2^32
    uint32_t module;
    float scale; // 1 / (1 - p)
    uint32_t unused;
};

// 0 or 1 / (1 - p) for each of the four values in columns `column`.. of token t, which share a Philox block. `column`
// is a multiple of 4; `sub` distinguishes heads of one module.
DEVICE float4 factors(const Dropout& d, int t, uint32_t sub, uint32_t column) {
    if (d.threshold == 0) return make_float4(1.f, 1.f, 1.f, 1.f);
    const uint4 w = philox(d.key[0], d.key[1], column / 4, d.pos[t], d.example[t], d.module + sub);
    auto of = [&](uint32_t word) { return word < d.threshold ? 0.f : d.scale; };
    return make_float4(of(w.x), of(w.y), of(w.z), of(w.w));
}

// The same for eight.
DEVICE void factors(float (&f)[8], const Dropout& d, int t, uint32_t sub, uint32_t column) {
    const float4 low = factors(d, t, sub, column), high = factors(d, t, sub, column + 4);
    f[0] = low.x, f[1] = low.y, f[2] = low.z, f[3] = low.w;
    f[4] = high.x, f[5] = high.y, f[6] = high.z, f[7] = high.w;
}

// The same for one value.
DEVICE float factor(const Dropout& d, int t, uint32_t sub, uint32_t column) {
    const float4 f = factors(d, t, sub, column & ~3u);
    return column & 2 ? (column & 1 ? f.w : f.z) : (column & 1 ? f.y : f.x);
}
