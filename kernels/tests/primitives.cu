// Wrappers one by one, so that their results can be compared with the definitions in the PTX ISA: on the emulator, and
// bit for bit between the emulator and a device. One warp each, unless said otherwise.
#include "prim.cuh"

// out [3, 32]: an exchange, a gather, a vote.
extern "C" __global__ void test_lanes(const uint32_t* x, uint32_t* out) {
    const int lane = threadIdx.x;
    store(out + lane, shfl_xor(load(x + lane), 21));
    store(out + 32 + lane, shfl(load(x + lane), lane * 7 + 3));
    store(out + 64 + lane, ballot(load(x + lane) % 3 == 0));
}
EXPORT_KERNEL(test_lanes)

// For n numbers, a multiple of 32: pairs as bf16 (low half: the number, high half: its negative), the number widened
// again, 2^x, log2 |x|, 1 / sqrt |x|. Any number of blocks of one warp.
extern "C" __global__ void test_numbers(const float* x, uint32_t* pairs, float* wide, float* powers, float* logs,
                                        float* roots) {
    const int i = blockIdx.x * 32 + threadIdx.x;
    const float v = load(x + i);
    const uint32_t pair = pack_bf16x2(v, -v);
    store(pairs + i, pair);
    store(wide + i, unpack_bf16x2(pair).x);
    store(powers + i, ex2(v));
    store(logs + i, lg2(fabsf(v)));
    store(roots + i, rsqrt(fabsf(v)));
}
EXPORT_KERNEL(test_numbers)

// x [16, 16] of 16 bits; plain and transposed [32, 4] registers each. The matrices are the four quarters: rows 0-7 and
// 8-15 of the left half, then of the right half. 512 bytes of shared memory.
extern "C" __global__ void test_ldmatrix(const uint16_t* x, uint32_t* plain, uint32_t* transposed) {
    DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x;
    const uint32_t tile = smem_u32(shared);
    cp_async16(tile + lane * 16, x + lane * 8);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    uint32_t r[4];
    const uint32_t row = tile + lane % 16 * 32 + lane / 16 * 16;
    ldmatrix_x4(r, row);
    store_128(plain + lane * 4, make_uint4(r[0], r[1], r[2], r[3]));
    ldmatrix_x4_trans(r, row);
    store_128(transposed + lane * 4, make_uint4(r[0], r[1], r[2], r[3]));
}
EXPORT_KERNEL(test_ldmatrix)

// d [16, 8] f32 = c + a [16, 16] b [8, 16]^T, with fragments read element by element.
extern "C" __global__ void test_mma(const bf16* a, const bf16* b, const float* c, float* d) {
    const int lane = threadIdx.x, g = lane / 4, t = lane % 4 * 2;
    uint32_t left[4], right[2];
    for (int i = 0; i < 4; i++) left[i] = load((const uint32_t*)(a + (g + i % 2 * 8) * 16 + t + i / 2 * 8));
    for (int i = 0; i < 2; i++) right[i] = load((const uint32_t*)(b + g * 16 + t + i * 8));
    float sum[4];
    for (int i = 0; i < 4; i++) sum[i] = load(c + (g + i / 2 * 8) * 8 + t + i % 2);
    mma_bf16_16816(sum, left, right[0], right[1]);
    for (int i = 0; i < 4; i++) store(d + (g + i / 2 * 8) * 8 + t + i % 2, sum[i]);
}
EXPORT_KERNEL(test_mma)

// Two warps: the first hands n values, one by one, to the second through one place in shared memory; y = 2 x + 1.
// Barrier 1: the place is full; barrier 2: it is empty. 4 bytes of shared memory.
extern "C" __global__ void test_named_barriers(const float* x, float* y, int n) {
    DYNAMIC_SHARED(shared);
    float* place = (float*)shared;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (warp == 0) {
        for (int i = 0; i < n; i++) {
            if (i > 0) named_barrier_sync(2, 64);
            if (lane == 0) *place = load(x + i);
            named_barrier_arrive(1, 64);
        }
    } else {
        for (int i = 0; i < n; i++) {
            named_barrier_sync(1, 64);
            if (lane == i % 32) store(y + i, 2.0f * *place + 1.0f);
            if (i + 1 < n) named_barrier_arrive(2, 64);
        }
    }
}
EXPORT_KERNEL(test_named_barriers)

// Adds 0.5 and 3 for each thread of the grid, of any shape; zeros [32, 4] from copies that keep nothing. 512 bytes of
// shared memory.
extern "C" __global__ void test_atomics_and_zeros(float* sum, uint32_t* count, uint32_t* zeros) {
    DYNAMIC_SHARED(shared);
    atomicAdd(sum, 0.5f);
    atomicAdd(count, 3u);
    const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    if (thread >= 32) return;
    cp_async16(smem_u32(shared) + thread * 16, nullptr, false);
    cp_async_commit();
    cp_async_wait<0>();
    if (blockIdx.x == 0 && blockIdx.y == 0) store_128(zeros + thread * 4, load_128(shared + thread * 16));
}
EXPORT_KERNEL(test_atomics_and_zeros)
