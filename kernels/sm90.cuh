// The instructions of sm_90a: barriers that count bytes, loads by the tensor memory accelerator, products of a
// warpgroup (128 threads). They do not compile for other architectures.
//
// Section names in brackets are those of the PTX ISA, https://docs.nvidia.com/cuda/parallel-thread-execution/#<anchor>.
#pragma once
#include "prim.cuh"

// TMA's description of a matrix; made on the host, passed as `const __grid_constant__ TensorMap`.
struct __align__(128) TensorMap {
    uint64_t opaque[16];
};

// A K-major operand of wgmma in shared memory, rows of 64 bf16 = 128 bytes, 128-byte swizzle: eight rows are 1024
// bytes. The start may be moved along k by multiples of 32 bytes.
// [asynchronous-warpgroup-level-matrix-shared-memory-layout]
DEVICE uint64_t wgmma_descriptor(uint32_t address) {
    return (uint64_t)((address & 0x3ffff) >> 4) | ((uint64_t)1 << 16) | ((uint64_t)(1024 >> 4) << 32) |
           ((uint64_t)1 << 62);
}

// A right operand of wgmma [16 k, n] whose n runs along those rows instead, one row for each k: the tile transposed.
// Beyond 64 columns, panels of 64 are `panel` bytes apart. The start moves along k by 16 rows, 2048 bytes.
DEVICE uint64_t wgmma_descriptor_transposed(uint32_t address, uint32_t panel) {
    return (uint64_t)((address & 0x3ffff) >> 4) | ((uint64_t)(panel >> 4) << 16) | ((uint64_t)(1024 >> 4) << 32) |
           ((uint64_t)1 << 62);
}

#if defined(EYEKERN_EMULATED)
#include "emulator/sm90.h"
#else

// ---- mbarrier: a phase ends when all arrivals and all expected bytes have come
// [parallel-synchronization-and-communication-instructions-mbarrier]

DEVICE void mbarrier_init(uint32_t mbarrier, uint32_t arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(mbarrier), "r"(arrivals) : "memory");
}

// Needed before other threads and TMA use the barriers that mbarrier_init wrote; a __syncthreads follows.
DEVICE void mbarrier_fence_init() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void mbarrier_arrive(uint32_t mbarrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(mbarrier) : "memory");
}

// Arrives, and makes the phase expect `bytes` more.
DEVICE void mbarrier_arrive_expect(uint32_t mbarrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(mbarrier), "r"(bytes) : "memory");
}

// Waits until the phase with this parity has ended; for a new barrier, the phase with parity 1 has ended.
DEVICE void mbarrier_wait(uint32_t mbarrier, uint32_t parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "WAIT_%=:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra WAIT_%=;\n"
                 "}" ::"r"(mbarrier),
                 "r"(parity)
                 : "memory");
}

// ---- TMA

// Loads a box of the matrix, from element (row, column), to shared memory; zeros outside the matrix. Called by one
// thread; `mbarrier` receives its bytes. [data-movement-and-conversion-instructions-cp-async-bulk-tensor]
DEVICE void tma_load_2d(uint32_t to, const TensorMap* map, uint32_t mbarrier, int column, int row) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3, %4}], [%2];" ::"r"(to),
                 "l"(map), "r"(mbarrier), "r"(column), "r"(row)
                 : "memory");
}

// Needed between plain writes to shared memory and wgmma or TMA reads of them. [async-proxy]
DEVICE void fence_async_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- wgmma [asynchronous-warpgroup-level-matrix-instructions]

// Needed between writes to the accumulators and the first wgmma of a batch.
DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most `Pending` batches are running; before that, neither accumulators nor operands may be touched.
template <int Pending> DEVICE void wgmma_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

// The value is in its register here: no computation with it is moved from before to after this place, or back.
DEVICE void pin(float& x) { asm volatile("" : "+f"(x)::"memory"); }
DEVICE void pin(uint32_t& x) { asm volatile("" : "+r"(x)::"memory"); }

// d [64, 128] += a [64, 16] b [128, 16]^T, both in shared memory. Thread t of the warpgroup has, with
// g = 16 (t / 32) + t % 32 / 4 and c = 2 (t % 4): d[4 i + 0..2] = D[g][8 i + c..], d[4 i + 2..4] = D[g + 8][8 i + c..].
DEVICE void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "%64, %65, 1, 1, 1, 0, 0;"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
                   "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
                   "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]),
                   "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
                   "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]),
                   "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]),
                   "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]), "+f"(d[50]),
                   "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]),
                   "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "l"(a), "l"(b));
}

// The same with d as the accumulators of 8 columns each, so that d[i] holds D[g][8 i + c..] and D[g + 8][8 i + c..].
#define FOUR(d) "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])

// d [64, 64] += a [64, 16] b [64, 16]^T, both in shared memory.
DEVICE void wgmma_m64n64k16(float (&d)[8][4], uint64_t a, uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, %32, %33, 1, 1, 1, 0, 0;"
                 : FOUR(d[0]), FOUR(d[1]), FOUR(d[2]), FOUR(d[3]), FOUR(d[4]), FOUR(d[5]), FOUR(d[6]), FOUR(d[7])
                 : "l"(a), "l"(b));
}

// The same with a in registers, laid out as in mma_bf16_16816; warp w of the warpgroup has rows 16 w... If
// `Transposed`, b is [16, n].
template <bool Transposed> DEVICE void wgmma_m64n64k16(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
                 "}, {%32, %33, %34, %35}, %36, 1, 1, 1, %37;"
                 : FOUR(d[0]), FOUR(d[1]), FOUR(d[2]), FOUR(d[3]), FOUR(d[4]), FOUR(d[5]), FOUR(d[6]), FOUR(d[7])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"((int)Transposed));
}

template <bool Transposed> DEVICE void wgmma_m64n128k16(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, %69;"
                 : FOUR(d[0]), FOUR(d[1]), FOUR(d[2]), FOUR(d[3]), FOUR(d[4]), FOUR(d[5]), FOUR(d[6]), FOUR(d[7]),
                   FOUR(d[8]), FOUR(d[9]), FOUR(d[10]), FOUR(d[11]), FOUR(d[12]), FOUR(d[13]), FOUR(d[14]), FOUR(d[15])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"((int)Transposed));
}
#undef FOUR

// Registers per thread of this warpgroup; all four warps execute it. The kernel's __launch_bounds__ must name the
// blocks per multiprocessor as well, or ptxas ignores it. [miscellaneous-instructions-setmaxnreg]
template <int Registers> DEVICE void setmaxnreg_dec() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers> DEVICE void setmaxnreg_inc() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

#endif

template <class T, int N> DEVICE void pin(T (&fragments)[N][4]) {
#pragma unroll
    for (int i = 0; i < N; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) pin(fragments[i][j]);
}

// Products in flight read and write registers, which the compiler cannot know from their instructions alone. So every
// batch begins with wgmma_begin, on all accumulators and left operands in registers that it uses, and wgmma_end names
// those that are free again after its wait (CUTLASS: warpgroup_fence_operand).
template <class... Fragments> DEVICE void wgmma_begin(Fragments&... fragments) {
    (pin(fragments), ...);
    wgmma_fence();
}
template <int Pending, class... Fragments> DEVICE void wgmma_end(Fragments&... fragments) {
    wgmma_wait<Pending>();
    (pin(fragments), ...);
}
