// Rotary positions (Su et al. 2021, half-split form of Hugging Face) on the packed buffer, in place.
//
// qkv [T, (q + 2 kv) * dim] bf16, dim a multiple of 8; table [positions, dim] f32: cos of dim / 2 angles, then sin.
// sign = -1 rotates back, which is the gradient. Bytes: 4 T (q + kv) dim; floor: bandwidth. One block per token, one
// thread per four pairs.
#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(256)
    rope(const uint32_t* pos, const float* table, float sign, bf16* qkv, int heads, int dim, int width) {
    const int64_t t = blockIdx.x;
    const int half = dim / 2;
    bf16* row = qkv + t * width;
    const float* angles = table + (int64_t)pos[t] * dim;
    for (int i = threadIdx.x * 4; i < heads * half; i += blockDim.x * 4) {
        const int pair = i % half, low = i / half * dim + pair, high = low + half;
        const uint2 x = load((const uint2*)(row + low)), y = load((const uint2*)(row + high));
        const float4 c = load((const float4*)(angles + pair)), s = load((const float4*)(angles + half + pair));
        const float2 a[2] = {unpack_bf16x2(x.x), unpack_bf16x2(x.y)}, b[2] = {unpack_bf16x2(y.x), unpack_bf16x2(y.y)};
        auto turn = [&](float2 u, float2 v, float c0, float c1, float s0, float s1) {
            return pack_bf16x2(u.x * c0 + v.x * s0, u.y * c1 + v.y * s1);
        };
        const float n = -sign;
        store((uint2*)(row + low), make_uint2(turn(a[0], b[0], c.x, c.y, n * s.x, n * s.y),
                                              turn(a[1], b[1], c.z, c.w, n * s.z, n * s.w)));
        store((uint2*)(row + high), make_uint2(turn(b[0], a[0], c.x, c.y, sign * s.x, sign * s.y),
                                               turn(b[1], a[1], c.z, c.w, sign * s.z, sign * s.w)));
    }
}
EXPORT_KERNEL(rope)
