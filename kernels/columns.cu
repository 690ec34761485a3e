// Sums over the rows of a matrix, one per column, for gains and biases: out[c] += alpha sum_t dy[t, c] * xhat(t, c).
//
// dy [n, ld >= width] bf16; out [width] f32. Bytes: 2 n width per operand; floor: bandwidth. A block owns 32 columns;
// 32 lanes sum strided rows in order, and their sums are added in order: the same bits every time, without atomics.
#include "prim.cuh"

// Adds up the block's partial sums in `part` [32, 33] and adds the result to out[c].
DEVICE void finish(float sum, float alpha, float* out, int c, int width, float* part) {
    int lane = threadIdx.x & 31, row = threadIdx.x >> 5;
    part[row * 33 + lane] = sum;
    __syncthreads();
    if (row == 0 && c < width) {
        float total = 0.f;
        for (int r = 0; r < 32; r++) total += part[r * 33 + lane];
        out[c] += alpha * total;
    }
}

extern "C" __global__ void __launch_bounds__(1024)
    column_sum(const bf16* dy, float alpha, float* out, int n, int width, int ld) {
    DYNAMIC_SHARED(shared);
    int c = blockIdx.x * 32 + (threadIdx.x & 31);
    float sum = 0.f;
    if (c < width)
        for (int t = threadIdx.x >> 5; t < n; t += 32) sum += to_float(dy[(int64_t)t * ld + c]);
    finish(sum, alpha, out, c, width, (float*)shared);
}
EXPORT_KERNEL(column_sum)

// xhat = (x - mean) / dev with stat [n, 2]: the gradient of a norm's gain.
extern "C" __global__ void __launch_bounds__(1024)
    gain_sum(const bf16* dy, const bf16* x, const float* stat, float* out, int n, int width) {
    DYNAMIC_SHARED(shared);
    int c = blockIdx.x * 32 + (threadIdx.x & 31);
    float sum = 0.f;
    if (c < width)
        for (int t = threadIdx.x >> 5; t < n; t += 32) {
            int64_t at = (int64_t)t * width + c;
            sum += to_float(dy[at]) * (to_float(x[at]) - stat[2u * t]) * stat[2u * t + 1]; // fits for every int t
        }
    finish(sum, 1.f, out, c, width, (float*)shared);
}
EXPORT_KERNEL(gain_sum)
