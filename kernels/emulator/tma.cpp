// mbarriers and TMA loads. A load is carried out when no thread can go on without it (seed 0) or at a random time
// before; until then its destination holds NaN.
#include "device_state.h"
#include "sm90.h"

namespace emulator {

// The state lies in shared memory, so that what overwrites it breaks it. Memory that was never initialised has all bits
// set, which no initialised barrier has.
struct MBarrier {
    int32_t bytes;     // still expected
    uint16_t pending;  // arrivals still expected
    uint16_t expected; // 15 bits: arrivals of each phase; the top bit is the phase
};
constexpr uint16_t PHASE = 0x8000;

static MBarrier& mbarrier_at(uint32_t address) {
    MBarrier& barrier = *reinterpret_cast<MBarrier*>(shared(address, 8, 8));
    if (barrier.expected == 0xffff) fail("the mbarrier was never initialised");
    return barrier;
}

static void end_phase_if_complete(uint32_t address) {
    MBarrier& barrier = mbarrier_at(address);
    if (barrier.pending || barrier.bytes) return;
    barrier.expected ^= PHASE;
    barrier.pending = barrier.expected & (PHASE - 1);
    Multiprocessor& m = *processor;
    for (Fiber& fiber : m.fibers)
        if (fiber.wait == Wait::mbarrier && fiber.wait_on == address) m.wake(fiber);
}

void mbarrier_init(uint32_t address, uint32_t arrivals) {
    if (arrivals == 0 || arrivals > MAX_THREADS) fail("an mbarrier for %u arrivals", arrivals);
    *reinterpret_cast<MBarrier*>(shared(address, 8, 8)) = {0, (uint16_t)arrivals, (uint16_t)arrivals};
}

void mbarrier_arrive(uint32_t address, uint32_t bytes) {
    MBarrier& barrier = mbarrier_at(address);
    sanitizer::release(&barrier);
    if (!barrier.pending) fail("all %u arrivals of this phase have come already", barrier.expected & (PHASE - 1));
    barrier.bytes += (int32_t)bytes;
    barrier.pending--;
    end_phase_if_complete(address);
}

void mbarrier_wait(uint32_t address, uint32_t parity) {
    while ((mbarrier_at(address).expected & PHASE ? 1u : 0u) == (parity & 1)) processor->sleep(Wait::mbarrier, address);
    sanitizer::acquire(&mbarrier_at(address));
}

// ---- TMA

constexpr uint64_t MAP_MAGIC = 0x70616d726f736e74; // tensormap
static_assert(sizeof(TmaMap) <= 128, "a TensorMap has 128 bytes");

void tma_load(uint32_t to, const void* map, uint32_t mbarrier, int column, int row) {
    Multiprocessor& m = *processor;
    TmaLoad load;
    __builtin_memcpy(&load.map, map, sizeof load.map);
    if (load.map.magic != MAP_MAGIC) fail("the tensor map was not made by the device");
    const uint32_t bytes = load.map.box_columns * load.map.element * load.map.box_rows;
    if (m.tma_loads == MAX_TMA) fail("more than %u TMA loads in flight", MAX_TMA);
    unsigned char* destination = shared(to, bytes, load.map.swizzle ? 1024 : 128);
    check_global(load.map.base, 1, 16); // the matrix may have been freed since the map was made
    mbarrier_at(mbarrier);
    for (uint32_t i = 0; i < bytes; i += 16) fill16(destination + i, POISON);
    load.to = to;
    load.mbarrier = mbarrier;
    load.column = column;
    load.row = row;
    m.tma[m.tma_loads++] = load;
}

// 16 bytes move together: with the 128-byte swizzle their place in the row is exchanged by the row's number mod 8.
static uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

static void carry_out(const TmaLoad& load) {
    const TmaMap& map = load.map;
    const uint32_t row_bytes = map.box_columns * map.element;
    for (uint32_t r = 0; r < map.box_rows; r++) {
        const int64_t row = (int64_t)load.row + r;
        for (uint32_t at = 0; at < row_bytes; at += 16) {
            const uint32_t address = load.to + r * row_bytes + at;
            unsigned char* to = shared(map.swizzle ? swizzled(address) : address, 16, 16);
            const int64_t first = load.column + (int64_t)(at / map.element), last = first + 16 / map.element;
            const unsigned char* source = map.base + row * (int64_t)map.row_bytes + first * map.element;
            const bool in_row = row >= 0 && row < (int64_t)map.rows;
            if (in_row && first >= 0 && last <= (int64_t)map.columns) {
                copy16(to, source);
                continue;
            }
            fill16(to, 0);
            if (!in_row) continue;
            for (uint32_t e = 0; e < 16; e += map.element) {
                const int64_t column = first + e / map.element;
                if (column < 0 || column >= (int64_t)map.columns) continue;
                for (uint32_t i = e; i < e + map.element; i++) const_cast<volatile unsigned char*>(to)[i] = source[i];
            }
        }
    }
}

bool complete_tma_load() {
    Multiprocessor& m = *processor;
    if (!m.tma_loads) return false;
    const uint32_t which = m.shuffle ? m.draw(m.tma_loads) : 0;
    const TmaLoad load = m.tma[which];
    m.tma[which] = m.tma[--m.tma_loads];
    carry_out(load);
    MBarrier& barrier = mbarrier_at(load.mbarrier);
    sanitizer::release(&barrier);
    barrier.bytes -= (int32_t)(load.map.box_columns * load.map.element * load.map.box_rows);
    end_phase_if_complete(load.mbarrier);
    return true;
}

void check_nothing_in_flight() {
    const Fiber& fiber = *self();
    if (fiber.copies) fail("the thread returns with %u asynchronous copies that it never waited for", fiber.copies);
    const Warpgroup& group = processor->warpgroups[fiber.linear / 128];
    if (group.queued) fail("the thread returns with %u wgmma that it never waited for", group.queued);
}

} // namespace emulator

using namespace emulator;

int eyekern_device_tensor_map(EyekernDevice* device, void* map, uint64_t base, uint64_t columns, uint64_t rows,
                              uint64_t row_bytes, uint32_t box_columns, uint32_t box_rows, uint32_t element,
                              uint32_t swizzle, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    const uint32_t box_bytes = box_columns * element;
    if (!columns || !rows || (element != 2 && element != 4))
        return report(error, size, "a tensor map of an empty matrix, or of elements that have neither 2 nor 4 bytes");
    if (base % 16 || row_bytes % 16 || row_bytes < columns * element)
        return report(error, size, "TMA needs an address and rows at multiples of 16 bytes");
    if (!box_columns || !box_rows || box_columns > 256 || box_rows > 256 || box_bytes % 16)
        return report(error, size, "a box of TMA has 1 to 256 rows and columns, and rows of a multiple of 16 bytes");
    if (swizzle != 0 && (swizzle != 128 || box_bytes != 128))
        return report(error, size, "the emulator knows no swizzle and that of 128 bytes, with rows of 128 bytes");
    std::string why;
    unsigned char* begin = device->find(base, (rows - 1) * row_bytes + columns * element, why);
    if (!begin) return report(error, size, "tensor map: " + why);
    const TmaMap made = {MAP_MAGIC, begin, columns, rows, row_bytes, box_columns, box_rows, element, swizzle};
    memset(map, 0, 128);
    memcpy(map, &made, sizeof made);
    return 0;
}
