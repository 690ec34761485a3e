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

// out [4, n]: each number as bf16 and back, its bits, and both halves of its pair with the negative swapped.
extern "C" __global__ void test_conversions(const float* x, uint32_t* out, int n) {
    const int i = blockIdx.x * 32 + threadIdx.x;
    const float v = load(x + i);
    store(out + i, float_to_bits(to_float(to_bf16(v))));
    store(out + n + i, float_to_bits(bits_to_float(float_to_bits(v))));
    const float2 both = unpack_bf16x2(pack_bf16x2(v, -v));
    store(out + 2 * n + i, float_to_bits(both.y));
    store(out + 3 * n + i, float_to_bits(both.x));
}
EXPORT_KERNEL(test_conversions)

// x [32, 16] bytes; out [6, 32, 16]: copied in pieces of 2, 4, 8 and 16 bytes, as 128 bits, and as 128 bits read once.
extern "C" __global__ void test_moves(const uint16_t* x, uint16_t* out) {
    const int lane = threadIdx.x;
    for (int i = 0; i < 8; i++) store(out + lane * 8 + i, load(x + lane * 8 + i));
    x += lane * 8, out += 256 + lane * 8;
    for (int i = 0; i < 4; i++) store((uint32_t*)out + i, load((const uint32_t*)x + i));
    out += 256;
    for (int i = 0; i < 2; i++) store((float2*)out + i, load((const float2*)x + i));
    out += 256;
    store((uint4*)out, load((const uint4*)x));
    store_128(out + 256, load_128(x));
    store_128(out + 512, load_128_streaming(x));
}
EXPORT_KERNEL(test_moves)

// x [3, 32, 4] words; out the same: three groups of copies, waited for one after the other, so that lanes read what
// others copied as soon as their group is there; zeros where lane % 3 == group. 1536 bytes of shared memory.
extern "C" __global__ void test_copies(const uint32_t* x, uint32_t* out) {
    DYNAMIC_SHARED(shared);
    const int lane = threadIdx.x, other = 31 - lane;
    for (int group = 0; group < 3; group++) {
        cp_async16(smem_u32(shared) + group * 512 + lane * 16, x + group * 128 + lane * 4, lane % 3 != group);
        cp_async_commit();
    }
    cp_async_wait<2>();
    __syncwarp();
    store_128(out + other * 4, load_128(shared + other * 16));
    cp_async_wait<1>();
    __syncwarp();
    store_128(out + 128 + other * 4, load_128(shared + 512 + other * 16));
    cp_async_wait<0>();
    __syncwarp();
    store_128(out + 256 + other * 4, load_128(shared + 1024 + other * 16));
}
EXPORT_KERNEL(test_copies)

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
