// Code shared by the optimiser's kernels: the assignment of tensors to blocks, and AdamW's rule (Loshchilov and Hutter
// 2019, in PyTorch's order of operations).
#pragma once
#include "enums.cuh"
#include "prim.cuh"

// The values of a tensor that belong to this block.
struct Stretch {
    int64_t from, packed, to; // packs of eight end at `packed`
};

// The tensor of this block: the last one that begins at or before it, so that empty tensors are skipped.
template <class Row> DEVICE Row own_tensor(const Row* table, int count) {
    int low = 0;
    for (int high = count; high - low > 1;) {
        int middle = (low + high) / 2;
        if (table[middle].first <= (int64_t)blockIdx.x) low = middle;
        else high = middle;
    }
    return table[low];
}

// `part` is a multiple of 256.
template <class Row> DEVICE Stretch own_stretch(const Row& t, int part) {
    int64_t from = ((int64_t)blockIdx.x - t.first) * part, to = from + part < t.len ? from + part : t.len;
    return {from, to - to % 8, to};
}

// The constants of AdamW. rest = 1 - beta, from the host: in f32 the difference would be off by up to 1e-4.
struct Adam {
    float beta1, rest1, beta2, rest2, eps, decay;
};

// The factors of a step that are the same for all values of a tensor.
struct Step {
    float beta1, rest1, beta2, rest2, eps, clip, shrink, rate, root2;
};

DEVICE Step step_of(const float* scalars, const Adam& k, bool decays) {
    const float lr = scalars[LR];
    return {k.beta1, k.rest1, k.beta2, k.rest2, k.eps, scalars[CLIP], decays ? 1.f - lr * k.decay : 1.f,
            lr / scalars[BIAS1], sqrtf(scalars[BIAS2])};
}

DEVICE void advance(const Step& k, float g, float& m, float& v, float& w) {
    g *= k.clip;
    m = k.beta1 * m + k.rest1 * g;
    v = k.beta2 * v + k.rest2 * g * g;
    w = w * k.shrink - k.rate * m / (sqrtf(v) / k.root2 + k.eps);
}

// If the norm is not finite, nothing changes: the host may launch the update before it has seen the norm.
DEVICE bool finite_norm(const float* scalars) { return scalars[SQ_NORM] <= 3.402823466e38f; } // false for NaN too
