// c [M, N] f32 = a [M, K] b [N, K]^T, bf16: TMA into a ring of four stages, one warpgroup that loads and one that
// multiplies, in tiles of 64 x 128 x 64. Beside the right kernel stand copies with one defect each.
//
// Grid: M / 64 x N / 128; 256 threads; 98368 bytes of shared memory. K is a multiple of 64.
#include "sm90.cuh"

enum class Defect { none, no_wait, early_release };

// The accumulators of a warpgroup to c [64, 128] of rows of c_row.
DEVICE void write_out(const float (&d)[64], float* c, int c_row) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < 16; i++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            store((float2*)(c + (int64_t)(row + half * 8) * c_row + column + i * 8),
                  make_float2(d[i * 4 + half * 2], d[i * 4 + half * 2 + 1]));
}

template <Defect defect> DEVICE void gemm(const TensorMap& a, const TensorMap& b, float* c, int k_total, int c_row) {
    DYNAMIC_SHARED(shared);
    constexpr int STAGES = 4;
    constexpr uint32_t A_BYTES = 64 * 128, B_BYTES = 128 * 128;
    const uint32_t a_tiles = smem_u32(shared), b_tiles = a_tiles + STAGES * A_BYTES;
    const uint32_t full = b_tiles + STAGES * B_BYTES, empty = full + STAGES * 8;
    if (threadIdx.x == 0) {
        for (uint32_t s = 0; s < STAGES; s++) {
            mbarrier_init(full + s * 8, 1);
            mbarrier_init(empty + s * 8, 128);
        }
        mbarrier_fence_init();
    }
    __syncthreads();
    const int steps = k_total / 64;

    if (threadIdx.x >= 128) {
        setmaxnreg_dec<40>();
        if (threadIdx.x != 128) return;
        for (int step = 0; step < steps; step++) {
            const uint32_t stage = step % STAGES, phase = step / STAGES & 1;
            mbarrier_wait(empty + stage * 8, phase ^ 1);
            mbarrier_arrive_expect(full + stage * 8, A_BYTES + B_BYTES);
            tma_load_2d(a_tiles + stage * A_BYTES, &a, full + stage * 8, step * 64, (int)blockIdx.x * 64);
            tma_load_2d(b_tiles + stage * B_BYTES, &b, full + stage * 8, step * 64, (int)blockIdx.y * 128);
        }
        return;
    }

    setmaxnreg_inc<232>();
    float d[64] = {};
    for (int step = 0; step < steps; step++) {
        const uint32_t stage = step % STAGES, phase = step / STAGES & 1;
        if constexpr (defect != Defect::no_wait) mbarrier_wait(full + stage * 8, phase);
        wgmma_fence();
#pragma unroll
        for (uint32_t kk = 0; kk < 4; kk++)
            wgmma_m64n128k16(d, wgmma_descriptor(a_tiles + stage * A_BYTES + kk * 32),
                             wgmma_descriptor(b_tiles + stage * B_BYTES + kk * 32));
        wgmma_commit();
        if constexpr (defect == Defect::early_release) {
            mbarrier_arrive(empty + stage * 8);
            wgmma_wait<1>();
        } else {
            wgmma_wait<0>();
            mbarrier_arrive(empty + stage * 8);
        }
    }
    wgmma_wait<0>();
    write_out(d, c + (int64_t)blockIdx.x * 64 * c_row + blockIdx.y * 128, c_row);
}

#define GEMM(name, defect)                                                                                             \
    extern "C" __global__ void __launch_bounds__(256, 1)                                                               \
        name(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, float* c, int k, int c_row) {   \
        gemm<Defect::defect>(a, b, c, k, c_row);                                                                       \
    }                                                                                                                  \
    EXPORT_KERNEL(name)

GEMM(test_gemm_sm90, none)
GEMM(test_gemm_sm90_no_wait, no_wait)
GEMM(test_gemm_sm90_early_release, early_release)

// c [64, 128] f32 = a [64, 64] b [128, 64]^T, bf16, from operands that threads wrote to shared memory in the layout
// that TMA would have. 128 threads; 24576 bytes of shared memory.
extern "C" __global__ void test_wgmma_stored(const bf16* a, const bf16* b, float* c) {
    DYNAMIC_SHARED(shared);
    for (int piece = threadIdx.x; piece < (64 + 128) * 8; piece += 128) {
        const int row = piece / 8, chunk = piece % 8;
        const bf16* from = row < 64 ? a + row * 64 : b + (row - 64) * 64;
        store_128(shared + row * 128 + ((chunk ^ (row & 7)) << 4), load_128(from + chunk * 8));
    }
    fence_async_shared();
    __syncthreads();
    float d[64] = {};
    const uint32_t tile = smem_u32(shared);
#pragma unroll
    for (int i = 0; i < 64; i++) pin(d[i]);
    wgmma_fence();
#pragma unroll
    for (uint32_t kk = 0; kk < 4; kk++)
        wgmma_m64n128k16(d, wgmma_descriptor(tile + kk * 32), wgmma_descriptor(tile + 64 * 128 + kk * 32));
    wgmma_commit();
    wgmma_wait<0>();
    write_out(d, c, 128);
}
EXPORT_KERNEL(test_wgmma_stored)

// The accumulators of a warpgroup to columns of rows of 320, once its products are done.
template <int N> DEVICE void finish(float (&d)[N][4], float* c) {
    const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column = threadIdx.x % 4 * 2;
    wgmma_commit();
    wgmma_end<0>(d);
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) store(c + (row + j / 2 * 8) * 320 + column + i * 8 + j % 2, d[i][j]);
}

// Products of the other shapes, end to end in rows of c [64, 320] f32, a [64, 64] in registers in the first three:
// a b^T with b [64, 64]; a times the first 64 columns of b2 [64, 128], whose rows are the depth; a b2; a b^T with a in
// shared memory. Tiles as TMA would have them, b2 as two panels. 128 threads; 32768 bytes of shared memory.
extern "C" __global__ void test_wgmma_registers(const bf16* a, const bf16* b, const bf16* b2, float* c) {
    DYNAMIC_SHARED(shared);
    for (int piece = threadIdx.x; piece < 4 * 64 * 8; piece += 128) {
        const int tile = piece / 512, row = piece / 8 % 64, chunk = piece % 8;
        const bf16* from = tile == 0   ? a + row * 64
                           : tile == 1 ? b + row * 64
                                       : b2 + row * 128 + (tile - 2) * 64;
        store_128(shared + tile * 8192 + row * 128 + ((chunk ^ (row & 7)) << 4), load_128(from + chunk * 8));
    }
    fence_async_shared();
    __syncthreads();
    const uint32_t tile = smem_u32(shared);
    const int lane = threadIdx.x & 31, own = threadIdx.x / 32 * 16 + (lane & 15);
    uint32_t left[4][4];
#pragma unroll
    for (int k = 0; k < 4; k++) ldmatrix_x4(left[k], tile + own * 128 + (((k * 2 + (lane >> 4)) ^ (own & 7)) << 4));
    const uint32_t b_tile = tile + 8192, b2_tiles = tile + 2 * 8192;
    float d[8][4] = {}, transposed[8][4] = {}, wide[16][4] = {}, in_memory[8][4] = {};
    wgmma_begin(d, left);
#pragma unroll
    for (int k = 0; k < 4; k++) wgmma_m64n64k16<false>(d, left[k], wgmma_descriptor(b_tile + k * 32));
    finish(d, c);
    wgmma_begin(transposed, left);
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_m64n64k16<true>(transposed, left[k], wgmma_descriptor_transposed(b2_tiles + k * 2048, 8192));
    finish(transposed, c + 64);
    wgmma_begin(wide, left);
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_m64n128k16<true>(wide, left[k], wgmma_descriptor_transposed(b2_tiles + k * 2048, 8192));
    finish(wide, c + 128);
    wgmma_begin(in_memory);
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_m64n64k16(in_memory, wgmma_descriptor(tile + k * 32), wgmma_descriptor(b_tile + k * 32));
    finish(in_memory, c + 256);
}
EXPORT_KERNEL(test_wgmma_registers)
