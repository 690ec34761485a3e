// Inverted dropout by counter: the mask of a value is a pure function of who it is (src/random.rs, Philox4x32-10 of
// Salmon et al., SC 2011). The same masks as on the CPU, bit for bit.
#pragma once
#include "prim.cuh"

// Passed by value; no dropout is a threshold of 0 and a scale of 1.
struct Dropout {
    const uint32_t* key;     // [2]: seed, step
    const uint32_t* pos;     // [T]: position inside the example
    const uint32_t* example; // [T]: identity of the example
    uint32_t threshold;      // p * 2^32
    uint32_t module;
    float scale; // 1 / (1 - p)
    uint32_t unused;
};

// Word `which` of a Philox block. A loop, not unrolled: kernels that expand this per element would take minutes to
// compile, and a mask is drawn once for every dozens of products.
DEVICE uint32_t philox(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t which) {
#pragma unroll 1
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return which & 2 ? (which & 1 ? c3 : c2) : (which & 1 ? c1 : c0);
}

// 0 or 1 / (1 - p) for the value in `column` of token t; `sub` tells heads of one module apart. Four neighbouring
// columns share a Philox block.
DEVICE float factor(const Dropout& d, int t, uint32_t sub, uint32_t column) {
    if (d.threshold == 0) return 1.f;
    uint32_t word = philox(d.key[0], d.key[1], column / 4, d.pos[t], d.example[t], d.module + sub, column % 4);
    return word < d.threshold ? 0.f : d.scale;
}
