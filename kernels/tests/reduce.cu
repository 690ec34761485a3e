// Root mean square norm of rows, y = x / sqrt(mean(x^2) + eps): a reduction over lanes, warps and shared memory. Beside
// the right kernel stand copies with one defect each, which the emulator or a sanitizer must notice.
//
// Grid: one block per row. Shared memory: 4 bytes per warp. n is a multiple of 4.
#include "prim.cuh"

enum class Defect {
    none,
    no_barrier,          // other warps' sums are read before they are written
    shared_past_end,     // plain store behind the dynamic shared memory
    global_past_end,     // load through a wrapper behind the row's allocation
    global_past_end_raw, // plain store behind the output
    misaligned,          // 128-bit load at a multiple of 4
    misaligned_raw,
    divergent_barrier, // only the first warp comes
    lost_lane,         // half a warp takes part in a shuffle
    blocks_race,       // all blocks add to one sum without atomics
    null_pointer,
    endless_recursion,
};

static __device__ float recurse(const float* x, int depth) {
    volatile float frame[64]; // volatile: or the compiler makes a loop of it
    frame[depth % 64] = x[depth % 4];
    if (depth == 1 << 30) return 0.0f;
    return recurse(x, depth + 1) + frame[depth % 64];
}

template <Defect defect> DEVICE void rmsnorm(const float* x, float* y, int n, float eps) {
    DYNAMIC_SHARED(shared);
    float* sums = (float*)shared;
    const int thread = threadIdx.x, warps = blockDim.x / 32;
    const float* row = x + (int64_t)blockIdx.x * n;
    const int shift = defect == Defect::misaligned || defect == Defect::misaligned_raw ? 1 : 0;
    float sum = 0.0f;
    for (int i = thread * 4; i + shift < n; i += blockDim.x * 4) {
        float4 v;
        if constexpr (defect == Defect::misaligned_raw) {
            v = *(const float4*)(row + i + shift); // planted: misaligned_raw
        } else {
            const uint4 bits = load_128(row + i + shift);
            v = make_float4(bits_to_float(bits.x), bits_to_float(bits.y), bits_to_float(bits.z), bits_to_float(bits.w));
        }
        sum += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
    }
    if constexpr (defect == Defect::global_past_end) sum += bits_to_float(load_128(row + n).x);
    if (defect != Defect::lost_lane || thread % 32 < 16)
        for (int mask = 16; mask > 0; mask /= 2) sum += shfl_xor(sum, mask);
    if (thread % 32 == 0) {
        if constexpr (defect == Defect::shared_past_end) sums[thread / 32 + 1] = sum; // planted: shared_past_end
        else sums[thread / 32] = sum;                                                 // planted: no_barrier
    }
    if constexpr (defect == Defect::divergent_barrier) {
        if (thread < 32) __syncthreads();
    } else if constexpr (defect != Defect::no_barrier) {
        __syncthreads();
    }
    float total = 0.0f;
    for (int w = 0; w < warps; w++) total += sums[w];
    const float scale = rsqrt(total / n + eps);
    for (int i = thread; i < n; i += blockDim.x) store(y + (int64_t)blockIdx.x * n + i, load(row + i) * scale);
    if constexpr (defect == Defect::global_past_end_raw) {
        if (thread == 0 && blockIdx.x == gridDim.x - 1)
            y[(int64_t)gridDim.x * n + 2] = 0.0f; // planted: global_past_end_raw
    }
    if constexpr (defect == Defect::blocks_race) {
        if (thread == 0) y[0] += total; // planted: blocks_race
    }
    if constexpr (defect == Defect::null_pointer) {
        if (thread == 77) y[0] = *(volatile const float*)(y - (uint64_t)y / 4 + 16);
    }
    if constexpr (defect == Defect::endless_recursion) {
        if (thread == 77) y[0] = recurse(x, 0);
    }
    if constexpr (defect == Defect::divergent_barrier) __syncthreads();
}

#define RMSNORM(name, defect)                                                                                          \
    extern "C" __global__ void __launch_bounds__(256) name(const float* x, float* y, int n, float eps) {               \
        rmsnorm<Defect::defect>(x, y, n, eps);                                                                         \
    }                                                                                                                  \
    EXPORT_KERNEL(name)

RMSNORM(test_rmsnorm, none)
RMSNORM(test_rmsnorm_no_barrier, no_barrier)
RMSNORM(test_rmsnorm_shared_past_end, shared_past_end)
RMSNORM(test_rmsnorm_global_past_end, global_past_end)
RMSNORM(test_rmsnorm_global_past_end_raw, global_past_end_raw)
RMSNORM(test_rmsnorm_misaligned, misaligned)
RMSNORM(test_rmsnorm_misaligned_raw, misaligned_raw)
RMSNORM(test_rmsnorm_divergent_barrier, divergent_barrier)
RMSNORM(test_rmsnorm_lost_lane, lost_lane)
RMSNORM(test_rmsnorm_blocks_race, blocks_race)
RMSNORM(test_rmsnorm_null_pointer, null_pointer)
RMSNORM(test_rmsnorm_endless_recursion, endless_recursion)
