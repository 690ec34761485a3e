// Inverted dropout by counter: the mask of a value is a pure function of who it is. The same masks as on the CPU,
// bit for bit. One is drawn once for every dozens of products.
#pragma once
#include "philox.cuh"

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

// 0 or 1 / (1 - p) for the value in `column` of token t; `sub` tells heads of one module apart. Four neighbouring
// columns share a Philox block.
DEVICE float factor(const Dropout& d, int t, uint32_t sub, uint32_t column) {
    if (d.threshold == 0) return 1.f;
    uint4 words = philox(d.key[0], d.key[1], column / 4, d.pos[t], d.example[t], d.module + sub);
    uint32_t word = column & 2 ? (column & 1 ? words.w : words.z) : (column & 1 ? words.y : words.x);
    return word < d.threshold ? 0.f : d.scale;
}
