// The emulated machine from inside: threads, warps, a multiprocessor that runs one block at a time, a device.
#pragma once
#include "context.h"
#include "emulator.h"
#include "pages.h"
#include <atomic>
#include <mutex>
#include <string>
#include <vector>

namespace emulator {

// ---- limits, of the largest device that kernels are written for

constexpr uint32_t MAX_THREADS = 1024;
constexpr uint32_t MAX_SHARED = 227 * 1024; // [compute capability 9.0, 10.0]
constexpr uint32_t MAX_COPIES = 128;        // cp.async under way, per thread
constexpr uint32_t MAX_TMA = 64;            // TMA loads under way, per block
constexpr uint32_t MAX_WGMMA = 32;          // wgmma under way, per warpgroup
constexpr uint32_t BARRIERS = 16;
constexpr size_t RED_ZONE = 256;

// Memory that no one has written: NaN as f32, bf16 and f64, -1 as an integer.
constexpr unsigned char POISON = 0xff;

// ---- a block's threads

#if defined(__SANITIZE_ADDRESS__) || defined(EYEKERN_TSAN)
constexpr size_t STACK = 256 * 1024; // frames carry red zones
#else
constexpr size_t STACK = 64 * 1024;
#endif
constexpr size_t GUARD = 4096; // the lowest page of each stack cannot be touched

struct Stack {
    char bytes[STACK];
};

enum class Wait : uint8_t { none, warp, warpgroup, barrier, mbarrier, returned };

struct Copy {
    unsigned char* to;
    const void* from;
    uint32_t group;
    bool keep;
};

struct Fiber : Thread {
    Context context;
    char* stack;
    uint32_t warp;
    Wait wait;
    uint32_t wait_on; // barrier number or address of the mbarrier
    uint32_t group;   // cp.async groups committed
    uint32_t copies;
    Copy copy[MAX_COPIES];
    void* tsan;
};

// Lanes of a warp that have come to a collective operation.
struct Warp {
    uint32_t ready, live, arrived; // bit masks of lanes
    WarpOperation execute;
    const char* operation;
    Site site;
    void* operands[32];
};

struct BarrierState {
    uint32_t arrived, threads;
    Site site;
};

// ---- Hopper's asynchronous engines

struct TmaMap { // what a TensorMap holds here; the real one is opaque as well
    uint64_t magic;
    unsigned char* base;
    uint64_t columns, rows, row_bytes; // of the tensor
    uint32_t box_columns, box_rows, element, swizzle;
};

struct TmaLoad {
    TmaMap map; // a copy: the thread that asked may have returned when the load is carried out
    uint32_t to, mbarrier;
    int column, row;
};

struct Wgmma {
    uint64_t a, b; // descriptors
    int columns;
    bool registers, transposed; // a in registers; b with its columns along the rows
    uint32_t fragments[128][4]; // a, if so
    uint32_t group;
    float* d[128];
};

struct Warpgroup {
    uint32_t arrived, kind, group, queued;
    Site site;
    Wgmma next; // as far as threads have come to it
    Wgmma queue[MAX_WGMMA];
};

// ---- launch and memory

struct Extent {
    unsigned char* begin;
    size_t bytes;
};

struct Launch {
    const Kernel* kernel;
    uint3 grid, block;
    uint32_t first, columns; // which blocks along x run
    uint32_t shared_bytes;
    void** arguments;
    uint64_t seed;
    const std::vector<Extent>* memory; // sorted by address
    std::atomic<uint64_t> next{0};
    std::mutex mutex;
    uint64_t failed = ~0ull; // lowest number of a block that failed
    std::string error;
    uint64_t blocks() const { return (uint64_t)columns * grid.y * grid.z; }
};

// Runs blocks one after the other on one host thread. What it keeps between launches is memory only.
class Multiprocessor {
  public:
    Multiprocessor() = default;
    Multiprocessor(const Multiprocessor&) = delete;
    void run(Launch& launch);

    Pages<Fiber> fibers;
    Pages<Warp> warps;
    Pages<Warpgroup> warpgroups;
    Pages<BarrierState> barriers;
    TmaLoad tma[MAX_TMA];
    uint32_t tma_loads = 0, live = 0, ready_warps = 0;
    uint64_t random = 0;
    bool shuffle = false, failed = false;
    char error[1024];
    Launch* launch = nullptr;
    size_t last_extent = 0; // where the last checked address lay

    void suspend(); // the current thread cannot go on: switches to one that can
    void to_host(); // leaves the block
    void wake(Fiber& fiber);
    void sleep(Wait wait, uint32_t on);
    uint32_t draw(uint32_t n);
    bool in_guard_page(const void* address) const;

  private:
    Context host;
    Pages<Stack> stacks;
    Pages<unsigned char> arena; // shared memory and its red zones
    void* host_tsan = nullptr;
    std::vector<void*> finished_tsan;
    const void* host_stack = nullptr;
    size_t host_stack_bytes = 0;

    static void begin();
    void reserve(uint32_t threads, uint32_t shared_bytes);
    void run_block(uint64_t number);
    void forget_history();
    void forget_threads();
    void prepare_block(uint64_t number);
    void check_end(uint64_t number);
    void switch_to(Fiber* fiber);
    Fiber* pick();
    void describe_deadlock();
};

extern __thread Multiprocessor* processor __attribute__((tls_model("initial-exec")));
inline Fiber* self() { return static_cast<Fiber*>(current); }

// One asynchronous operation is carried out; false if none is under way.
bool complete_tma_load();
// Fails if asynchronous operations of the block, or of a thread that returns, were never waited for.
void check_nothing_in_flight();

void write_red_zone(unsigned char* begin, size_t bytes);
bool red_zone_intact(const unsigned char* begin, size_t bytes, size_t* first);

// Compiled for wider vectors as well, chosen when the program starts. No clone fuses multiply and add
// (-ffp-contract=off), so all give the same bits.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__SANITIZE_ADDRESS__) && !defined(EYEKERN_TSAN)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif
typedef float Floats __attribute__((vector_size(32)));

// memcpy and memset are functions that sanitizers watch: under ThreadSanitizer the emulator must not call them on a
// thread's behalf. Of a constant size they are instructions.
inline void copy16(void* to, const void* from) { __builtin_memcpy(to, from, 16); }
inline void fill16(void* to, int value) { __builtin_memset(to, value, 16); }

} // namespace emulator
