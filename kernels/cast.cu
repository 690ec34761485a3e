// Widening and rounding between bf16 and f32, one element a thread.
//
//   widen:  f32[i] = bf16[i], exactly            6 bytes an element
//   round:  bf16[i] = f32[i], to nearest even    6 bytes an element
//
// Nothing but memory is at work, so registers and instructions do not matter beyond full occupancy.

typedef unsigned short bf16_bits;

extern "C" __global__ void __launch_bounds__(256) widen_bf16(const bf16_bits* x, float* y, unsigned long long n) {
    const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = __uint_as_float((unsigned int)x[i] << 16);
}

extern "C" __global__ void __launch_bounds__(256) round_bf16(const float* x, bf16_bits* y, unsigned long long n) {
    const unsigned long long i = (unsigned long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    const unsigned int bits = __float_as_uint(x[i]);
    const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
    // half of the last place that stays, and one more where that place is odd; a NaN stays one
    const unsigned int rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    y[i] = (bf16_bits)((nan ? bits | 0x400000u : rounded) >> 16);
}
