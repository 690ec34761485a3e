// AdamW with moments in 8 bits (src/backend/moments.rs): m and sqrt(v) are codes times the largest magnitude of 256
// values. m is rounded to the nearest code; sqrt(v) is rounded at random to one of the two nearest codes, which keeps
// its mean.
//
//   m = m_most m_code,  v = (root_most root_code)^2,  then the step of optim.cu, then encoding in reverse
//
// Bytes per value: 4 for the gradient, 2 * 4 for the master, 2 for the weight, 2 * 2 for the codes = 18, and 16 per 256
// for the maxima. Floor: bandwidth; a Philox block of 10 rounds serves eight values.
// Choice: a warp has a group of 256 values, eight per lane, so that codes move 8 bytes at a time and everything else
// 16, and the maxima are computed in registers. Otherwise as in optim.cu: one launch over all tensors in a table.
#include "optim.cuh"
#include "philox.cuh"

// A row of the table: `CodedRow` of src/backend/cuda/optim.rs.
struct Coded {
    bf16* weight;
    float* master;
    const float* grad;
    uint8_t *m, *root;
    int64_t len;
    int64_t first;
    uint64_t decays;
    float *m_most, *root_most; // [len / 256], rounded up
    uint64_t number;           // index among all tensors of the step
};

// A code is the upper bits of a float in (0, 1] without its lowest `Dropped` bits, offset so that 1 has the code `Top`;
// 0 is 0. A signed code has 3 bits of mantissa, an unsigned code 4.
template <int Dropped, uint32_t Top> struct Format {
    static constexpr int DROPPED = Dropped;
    static constexpr uint32_t ZERO = (0x3f800000u >> Dropped) - Top;
};
using Signed = Format<20, 127>;
using Unsigned = Format<19, 255>;

// `bits` are added to the dropped bits: half of their range rounds to nearest, a random value below the range keeps the
// mean.
template <class F> DEVICE uint32_t encode(float x, uint32_t bits) {
    uint32_t upper = (float_to_bits(x) + bits) >> F::DROPPED;
    return upper > F::ZERO ? upper - F::ZERO : 0;
}

template <class F> DEVICE float decode(uint32_t code) {
    return bits_to_float(code == 0 ? 0 : (code + F::ZERO) << F::DROPPED);
}

// A lane's part of a group, from `i` on; `n` of its values exist.
struct Eight {
    float g[8], w[8];
    uint32_t m[2], root[2]; // four codes in each
};

DEVICE void unpack(float (&to)[8], const float* from) {
#pragma unroll
    for (int k = 0; k < 8; k += 4) {
        float4 x = load((const float4*)(from + k));
        to[k] = x.x, to[k + 1] = x.y, to[k + 2] = x.z, to[k + 3] = x.w;
    }
}

DEVICE void load_eight(Eight& e, const Coded& t, int64_t i, int n) {
    if (n == 8) {
        unpack(e.g, t.grad + i);
        unpack(e.w, t.master + i);
        uint2 m = load((const uint2*)(t.m + i)), root = load((const uint2*)(t.root + i));
        e.m[0] = m.x, e.m[1] = m.y, e.root[0] = root.x, e.root[1] = root.y;
        return;
    }
    e.m[0] = e.m[1] = e.root[0] = e.root[1] = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) {
        bool there = k < n;
        e.g[k] = there ? load(t.grad + i + k) : 0.f;
        e.w[k] = there ? load(t.master + i + k) : 0.f;
        if (there) e.m[k / 4] |= (uint32_t)load(t.m + i + k) << k % 4 * 8;
        if (there) e.root[k / 4] |= (uint32_t)load(t.root + i + k) << k % 4 * 8;
    }
}

DEVICE void store_eight(const Eight& e, const Coded& t, int64_t i, int n) {
    if (n == 8) {
#pragma unroll
        for (int k = 0; k < 8; k += 4)
            store((float4*)(t.master + i + k), float4{e.w[k], e.w[k + 1], e.w[k + 2], e.w[k + 3]});
        store_128(t.weight + i, {pack_bf16x2(e.w[0], e.w[1]), pack_bf16x2(e.w[2], e.w[3]), pack_bf16x2(e.w[4], e.w[5]),
                                 pack_bf16x2(e.w[6], e.w[7])});
        store((uint2*)(t.m + i), uint2{e.m[0], e.m[1]});
        store((uint2*)(t.root + i), uint2{e.root[0], e.root[1]});
        return;
    }
#pragma unroll
    for (int k = 0; k < 8; k++)
        if (k < n) {
            store(t.master + i + k, e.w[k]);
            store(t.weight + i + k, to_bf16(e.w[k]));
            store(t.m + i + k, (uint8_t)(e.m[k / 4] >> k % 4 * 8));
            store(t.root + i + k, (uint8_t)(e.root[k / 4] >> k % 4 * 8));
        }
}

DEVICE float warp_max(float x) {
#pragma unroll
    for (int mask = 16; mask > 0; mask /= 2) x = fmaxf(x, shfl_xor(x, mask));
    return x;
}

// One step on the 256 values from `from` on, or on those of them before `to`, by a warp.
DEVICE void advance_group(const Step& k, const Coded& t, const uint32_t* key, int64_t from, int64_t to) {
    const int lane = threadIdx.x % 32;
    const int64_t i = from + lane * 8, group = from / 256;
    const int n = to <= i ? 0 : to - i < 8 ? (int)(to - i) : 8;
    float m_most = load(t.m_most + group), root_most = load(t.root_most + group);
    Eight e;
    float m[8], root[8];
    load_eight(e, t, i, n);
#pragma unroll
    for (int j = 0; j < 8; j++) {
        uint32_t code = e.m[j / 4] >> j % 4 * 8;
        float magnitude = decode<Signed>(code & 0x7f);
        m[j] = m_most * (code & 0x80 ? -magnitude : magnitude);
        root[j] = root_most * decode<Unsigned>(e.root[j / 4] >> j % 4 * 8 & 0xff);
    }
    m_most = root_most = 0.f;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        float v = root[j] * root[j];
        advance(k, e.g[j], m[j], v, e.w[j]);
        root[j] = sqrtf(v);
        m_most = fmaxf(m_most, fabsf(m[j]));
        root_most = fmaxf(root_most, root[j]);
    }
    m_most = warp_max(m_most), root_most = warp_max(root_most);
    if (lane == 0) store(t.m_most + group, m_most), store(t.root_most + group, root_most);
    // the divisors if all values are 0
    const float m_unit = m_most > 0.f ? m_most : 1.f, root_unit = root_most > 0.f ? root_most : 1.f;
    const uint64_t eighth = (uint64_t)i / 8;
    const uint4 words =
        philox(key[0], key[1], (uint32_t)eighth, (uint32_t)(eighth >> 32), (uint32_t)t.number, 0xffffffffu);
    const uint32_t noise[4] = {words.x, words.y, words.z, words.w};
    e.m[0] = e.m[1] = e.root[0] = e.root[1] = 0;
#pragma unroll
    for (int j = 0; j < 8; j++) {
        uint32_t code = encode<Signed>(fabsf(m[j]) / m_unit, 1u << 19) | (m[j] < 0.f ? 0x80 : 0);
        e.m[j / 4] |= code << j % 4 * 8;
        uint32_t random = noise[j / 2] >> j % 2 * 16 & 0xffff;
        code = encode<Unsigned>(root[j] / root_unit, random << 3);
        if (code == 0 && root[j] > 0.f) code = 1;
        e.root[j / 4] |= code << j % 4 * 8;
    }
    store_eight(e, t, i, n);
}

// Two blocks to a multiprocessor: for three, the compiler spills on sm_120.
extern "C" __global__ void __launch_bounds__(256, 2)
    adamw_8bit(const Coded* table, int count, int part, const float* scalars, Adam adam, const uint32_t* key) {
    if (!finite_norm(scalars)) return;
    const Coded t = own_tensor(table, count);
    const Stretch s = own_stretch(t, part);
    const Step k = step_of(scalars, adam, t.decays);
    for (int64_t from = s.from + threadIdx.x / 32 * 256; from < s.to; from += blockDim.x * 8)
        advance_group(k, t, key, from, s.to);
}
EXPORT_KERNEL(adamw_8bit)
