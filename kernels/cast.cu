// Widening and rounding between bf16 and f32, one element per thread.
//
//   widen:  f32[i] = bf16[i], exactly            6 bytes an element
//   round:  bf16[i] = f32[i], to nearest even    6 bytes an element
//
// Floor: bandwidth, so registers and instructions do not matter once occupancy is full.
#include "prim.cuh"

extern "C" __global__ void __launch_bounds__(256) widen_bf16(const bf16* x, float* y, uint64_t n) {
    const uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) store(y + i, to_float(load(x + i)));
}
EXPORT_KERNEL(widen_bf16)

extern "C" __global__ void __launch_bounds__(256) round_bf16(const float* x, bf16* y, uint64_t n) {
    const uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) store(y + i, to_bf16(load(x + i)));
}
EXPORT_KERNEL(round_bf16)
