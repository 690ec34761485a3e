// wgmma: issued by the 128 threads of a warpgroup together, carried out when they wait for it. It reads shared memory
// then, so operands that were overwritten too early give a wrong product.
#include "machine.h"
#include <memory>
#include "sm90.h"

namespace emulator {

enum Kind : uint32_t { MULTIPLY, COMMIT, WAIT };

// Operands are bf16, K-major, with the 128-byte swizzle, in groups of eight rows.
struct Operand {
    uint32_t start, group_bytes;
    explicit Operand(uint64_t descriptor)
        : start((uint32_t)(descriptor & 0x3fff) << 4), group_bytes((uint32_t)(descriptor >> 32 & 0x3fff) << 4) {
        if (descriptor >> 62 != 1) fail("the emulator knows only operands with the 128-byte swizzle");
    }
    // 16 values of a row: two pieces of 16 bytes, whose places the swizzle exchanges.
    void row(int row, float* out) const {
        const uint32_t first = start + (uint32_t)(row / 8) * group_bytes + (uint32_t)(row % 8) * 128;
        for (uint32_t piece = 0; piece < 2; piece++) {
            uint32_t address = first + piece * 16;
            address ^= (address >> 7 & 7) << 4;
            const bf16* from = reinterpret_cast<const bf16*>(shared(address, 16, 16));
            for (int i = 0; i < 8; i++) *out++ = to_float(from[i]);
        }
    }
};

constexpr int ROWS = 64, COLUMNS = 128, DEPTH = 16;
struct Tiles {
    alignas(32) float a[ROWS][DEPTH], b[DEPTH][COLUMNS], d[ROWS][COLUMNS];
};

// Sums in order of k, in f32.
WIDE static void multiply(Tiles& t) {
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < COLUMNS; column += 8) {
            Floats sum = *reinterpret_cast<Floats*>(&t.d[row][column]);
            for (int k = 0; k < DEPTH; k++) sum += t.a[row][k] * *reinterpret_cast<Floats*>(&t.b[k][column]);
            *reinterpret_cast<Floats*>(&t.d[row][column]) = sum;
        }
}

static void carry_out(const Wgmma& product) {
    // off the fiber's small stack, and not in the thread's static storage, of which a loaded library gets little
    static thread_local const std::unique_ptr<Tiles> own(new Tiles);
    Tiles& tiles = *own;
    const Operand a(product.a), b(product.b);
    for (int row = 0; row < ROWS; row++) a.row(row, tiles.a[row]);
    for (int column = 0; column < COLUMNS; column++) {
        float values[DEPTH];
        b.row(column, values);
        for (int k = 0; k < DEPTH; k++) tiles.b[k][column] = values[k];
    }
    auto fragments = [&](auto each) {
        for (int t = 0; t < 128; t++) {
            float* upper = &tiles.d[t / 32 * 16 + t % 32 / 4][t % 4 * 2];
            for (int i = 0; i < COLUMNS / 8; i++)
                for (int j = 0; j < 2; j++) {
                    each(upper[i * 8 + j], product.d[t][i * 4 + j]);
                    each(upper[8 * COLUMNS + i * 8 + j], product.d[t][i * 4 + 2 + j]);
                }
        }
    };
    fragments([](float& tile, float& own) { tile = own; });
    multiply(tiles);
    fragments([](float& tile, float& own) { own = tile; });
}

static void finish(Warpgroup& group, uint32_t pending) {
    uint32_t left = 0;
    for (uint32_t i = 0; i < group.queued; i++) {
        if (group.queue[i].group + pending >= group.group) {
            if (left != i) group.queue[left] = group.queue[i];
            left++;
        } else {
            carry_out(group.queue[i]);
        }
    }
    group.queued = left;
}

static void together(Kind kind, uint32_t pending, float* d, uint64_t a, uint64_t b) {
    Multiprocessor& m = *processor;
    Fiber& fiber = *self();
    const uint32_t first = fiber.linear / 128 * 128;
    Warpgroup& group = m.warpgroups[fiber.linear / 128];
    if (first + 128 > m.fibers.size()) fail("the block's last warpgroup has fewer than 128 threads");
    if (!group.arrived) {
        group.kind = kind;
        group.site = fiber.site;
        group.a = a;
        group.b = b;
    } else if (group.kind != kind || group.site.line != fiber.site.line || group.a != a || group.b != b) {
        fail("the threads of a warpgroup must execute it together, with the same operands; others are at line %d",
             group.site.line);
    }
    group.d[fiber.linear - first] = d;
    group.arrived++;
    sanitizer::release(&group);
    if (group.arrived < 128) {
        m.sleep(Wait::warpgroup, fiber.linear / 128);
        sanitizer::acquire(&m.warpgroups[fiber.linear / 128]);
        return;
    }
    sanitizer::acquire(&group);
    group.arrived = 0;
    if (kind == MULTIPLY) {
        if (group.queued == MAX_WGMMA) fail("more than %u wgmma in flight", MAX_WGMMA);
        Wgmma& product = group.queue[group.queued++];
        product.a = a;
        product.b = b;
        product.group = group.group;
        for (int i = 0; i < 128; i++) product.d[i] = group.d[i];
    } else if (kind == COMMIT) {
        group.group++;
    } else {
        finish(group, pending);
    }
    sanitizer::release(&group);
    for (uint32_t i = first; i < first + 128; i++)
        if (m.fibers[i].wait == Wait::warpgroup) m.wake(m.fibers[i]);
}

void wgmma_issue(float* d, uint64_t a, uint64_t b) { together(MULTIPLY, 0, d, a, b); }
void wgmma_commit() { together(COMMIT, 0, nullptr, 0, 0); }
void wgmma_wait(uint32_t pending) { together(WAIT, pending, nullptr, 0, 0); }

} // namespace emulator
