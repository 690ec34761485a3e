// Code shared by Hopper's attention kernels: tiles loaded by TMA, rings of them, and products of tiles by wgmma.
//
// A block has two warpgroups that compute and one that loads, which gives its registers to the others. A tile is 64
// rows of a head, D columns, in TMA's layout: panels of 64 columns, rows of 128 bytes, 128-byte swizzle. The same tile
// can be a right operand in two ways: its rows as columns of scores, or as the depth of a weighted sum. Left operands
// are in registers if there are enough.
#pragma once
#include "attention.cuh"
#include "sm90.cuh"

const int ROWS = 64;                    // of a tile
const uint32_t PANEL = ROWS * 128;      // bytes of 64 columns
const int GROUP = 128, THREADS_SM90 = 3 * GROUP;

// Registers per thread: at launch each thread has the number that the compiler chose, with `blocks` per multiprocessor
// of 64 K registers. The loading warpgroup keeps this many, and the others share the rest; setmaxnreg would wait
// forever for more.
const int LOADER_REGISTERS = 24;
DEVICE constexpr int multiplier_registers(int blocks) {
    return (65536 / (blocks * THREADS_SM90) / 8 * 8 * 3 - LOADER_REGISTERS) / 2 / 8 * 8;
}

// Bytes of a tile.
template <int D> DEVICE constexpr uint32_t tile_bytes() { return ROWS * D * 2; }

// Starts copying rows row.. and columns column.. of the matrix to a tile; zeros beyond the last row. Called by one
// thread.
template <int D> DEVICE void fetch_tile(uint32_t tile, const TensorMap* map, uint32_t full, int column, int row) {
#pragma unroll
    for (int p = 0; p < D / 64; p++) tma_load_2d(tile + p * PANEL, map, full, column + p * 64, row);
}

// Stages of shared memory that one warp fills and both warpgroups read, in order. The i-th filling is full when its
// loads have arrived, and empty again when all eight warps have released it.
template <int STAGES, uint32_t BYTES> struct Ring {
    static const uint32_t BARRIERS = STAGES * 16;
    uint32_t stages, barriers;

    DEVICE_MEMBER uint32_t stage(int i) const { return stages + i % STAGES * BYTES; }
    DEVICE_MEMBER uint32_t full(int i) const { return barriers + i % STAGES * 16; }
    DEVICE_MEMBER uint32_t empty(int i) const { return full(i) + 8; }
    DEVICE_MEMBER uint32_t parity(int i) const { return i / STAGES & 1; }

    // Called by one thread; `fillers` arrivals fill a stage.
    DEVICE_MEMBER void init(int fillers) const {
        for (int i = 0; i < STAGES; i++) {
            mbarrier_init(full(i), fillers);
            mbarrier_init(empty(i), 2 * GROUP / 32);
        }
    }
    DEVICE_MEMBER void wait_empty(int i) const { mbarrier_wait(empty(i), parity(i) ^ 1); }
    // Loads a tile into stage i once the stage is empty; called by one thread, the only filler.
    template <int D> DEVICE_MEMBER void fill(int i, const TensorMap* map, int column, int row) const {
        wait_empty(i);
        mbarrier_arrive_expect(full(i), tile_bytes<D>());
        fetch_tile<D>(stage(i), map, full(i), column, row);
    }
    DEVICE_MEMBER void wait_full(int i) const { mbarrier_wait(full(i), parity(i)); }
    // Called by every warp that read the stage, once its products are done.
    DEVICE_MEMBER void release(int i) const {
        __syncwarp();
        if ((threadIdx.x & 31) == 0) mbarrier_arrive(empty(i));
    }
};

// The left operand over all of D: the warp's 16 rows of a tile.
template <int D> DEVICE void left_operand(uint32_t (&a)[D / 16][4], uint32_t tile) {
    const int lane = threadIdx.x & 31, row = threadIdx.x % GROUP / 32 * 16 + (lane & 15);
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        const int piece = k * 2 + (lane >> 4);
        ldmatrix_x4(a[k], tile + piece / 8 * PANEL + row * 128 + (((piece ^ row) & 7) << 4));
    }
}

// The depth of scores: 16 columns of a tile, from column 16 k.
DEVICE uint64_t along_columns(uint32_t tile, int k) { return wgmma_descriptor(tile + k / 4 * PANEL + k % 4 * 32); }

// acc [64, 64] += A B^T, B a tile; still running when it returns.
template <int D> DEVICE void scores(float (&acc)[8][4], const uint32_t (&a)[D / 16][4], uint32_t tile) {
#pragma unroll
    for (int k = 0; k < D / 16; k++) wgmma_m64n64k16<false>(acc, a[k], along_columns(tile, k));
    wgmma_commit();
}

// The same with A a tile.
template <int D> DEVICE void scores(float (&acc)[8][4], uint32_t a, uint32_t tile) {
#pragma unroll
    for (int k = 0; k < D / 16; k++) wgmma_m64n64k16(acc, along_columns(a, k), along_columns(tile, k));
    wgmma_commit();
}

// acc [64, D] += P B, B a tile; still running when it returns.
template <int D> DEVICE void weighted(float (&acc)[D / 8][4], const uint32_t (&p)[4][4], uint32_t tile) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const uint64_t rows = wgmma_descriptor_transposed(tile + k * 2048, PANEL);
        if constexpr (D == 64)
            wgmma_m64n64k16<true>(acc, p[k], rows);
        else
            wgmma_m64n128k16<true>(acc, p[k], rows);
    }
    wgmma_commit();
}

// Accumulators [64, 64] as a left operand, rounded to bf16.
DEVICE void round_to_operand(uint32_t (&a)[4][4], const float (&p)[8][4]) {
#pragma unroll
    for (int k = 0; k < 4; k++) {
        a[k][0] = pack_bf16x2(p[k * 2][0], p[k * 2][1]);
        a[k][1] = pack_bf16x2(p[k * 2][2], p[k * 2][3]);
        a[k][2] = pack_bf16x2(p[k * 2 + 1][0], p[k * 2 + 1][1]);
        a[k][3] = pack_bf16x2(p[k * 2 + 1][2], p[k * 2 + 1][3]);
    }
}

// The queries of a warpgroup, in kernels whose blocks own queries. Two heads that share keys own the same 64 queries;
// with one query head per key head, or an odd number, the warpgroups have 64 queries each of one head.
struct Own {
    int block;        // the first query of the block
    int first, head;  // the first query of the warpgroup, its head
    bool paired;      // whether the warpgroups own two heads
    int keys;         // the first key that the block visits
    int tiles;        // of keys, from there
    int begin, end;   // the warpgroup's tiles among them
    int last_segment; // start of its last query's segment

    // Whether each of the warpgroup's queries sees all keys of the tile from n0 on.
    DEVICE_MEMBER bool sees(int n0) const { return n0 + ROWS - 1 <= first && n0 >= last_segment; }
};

DEVICE Own own_queries(const Heads& s, const uint32_t* seg_start) {
    Own own;
    own.paired = s.q / s.kv % 2 == 0;
    const int group = threadIdx.x / GROUP & 1, rows = own.paired ? ROWS : 2 * ROWS;
    // the longest rows first, so that the last blocks are short
    own.block = (gridDim.x - 1 - blockIdx.x) * rows;
    own.head = own.paired ? blockIdx.y * 2 + group : blockIdx.y;
    own.first = own.block + (own.paired ? 0 : group * ROWS);
    own.keys = seg_start[own.block];
    auto until = [&](int row) { return (min(row, s.tokens) - own.keys + ROWS - 1) / ROWS; };
    own.tiles = until(own.block + rows);
    const bool any = own.first < s.tokens;
    own.begin = any ? ((int)seg_start[own.first] - own.keys) / ROWS : own.tiles;
    own.end = any ? until(own.first + ROWS) : own.tiles;
    own.last_segment = any ? seg_start[min(own.first + ROWS, s.tokens) - 1] : 0;
    return own;
}

// The shared memory of kernels whose blocks own queries: OWNED tiles of the block, and rings of keys and of values.
template <int D, int OWNED, int STAGES> struct Visit {
    typedef Ring<STAGES, tile_bytes<D>()> Tiles;
    uint32_t owned, owned_full;
    Tiles keys, values;

    DEVICE_MEMBER explicit Visit(uint32_t shared) : owned(shared) {
        keys.stages = owned + OWNED * tile_bytes<D>();
        values.stages = keys.stages + STAGES * tile_bytes<D>();
        keys.barriers = values.stages + STAGES * tile_bytes<D>();
        values.barriers = keys.barriers + Tiles::BARRIERS;
        owned_full = values.barriers + Tiles::BARRIERS;
    }
    // Called by the whole block.
    DEVICE_MEMBER void init() const {
        if (threadIdx.x == 0) {
            keys.init(1);
            values.init(1);
            mbarrier_init(owned_full, 1);
            mbarrier_fence_init();
        }
        __syncthreads();
    }
    // Loads every key and value that the block visits; called by one thread.
    DEVICE_MEMBER void load(const TensorMap& qkv, const Heads& s, const Own& own) const {
        const int kv = own.head / (s.q / s.kv), k_column = (s.q + kv) * s.dim, v_column = k_column + s.kv * s.dim;
        for (int i = 0; i < own.tiles; i++) {
            keys.template fill<D>(i, &qkv, k_column, own.keys + i * ROWS);
            values.template fill<D>(i, &qkv, v_column, own.keys + i * ROWS);
        }
    }
    // Releases tiles of which the warpgroup sees nothing.
    DEVICE_MEMBER void skip(int from, int to) const {
        for (int i = from; i < to; i++) {
            keys.wait_full(i);
            keys.release(i);
            values.wait_full(i);
            values.release(i);
        }
    }
};
