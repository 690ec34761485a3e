// Rotary positions (Su et al. 2021, half-split form of Hugging Face) on the packed buffer, in place.
//
// qkv [T, (q + 2 kv) * dim] bf16; table [positions, dim] f32: cos of dim / 2 angles, then sin. sign = -1 rotates back,
// which is the gradient. Bytes: 4 T (q + kv) dim; floor: bandwidth. One block per token, a thread per pair.
#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(256)
    rope(const uint32_t* pos, const float* table, float sign, bf16* qkv, int heads, int dim, int width) {
    int64_t t = blockIdx.x;
    int half = dim / 2;
    bf16* row = qkv + t * width;
    const float* angles = table + (int64_t)pos[t] * dim;
    for (int i = threadIdx.x; i < heads * half; i += blockDim.x) {
        int pair = i % half, low = i / half * dim + pair, high = low + half;
        float a = to_float(load(row + low)), b = to_float(load(row + high));
        float c = load(angles + pair), s = sign * load(angles + half + pair);
        store(row + low, to_bf16(a * c - b * s));
        store(row + high, to_bf16(b * c + a * s));
    }
}
EXPORT_KERNEL(rope)
