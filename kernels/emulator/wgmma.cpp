// wgmma: issued by the 128 threads of a warpgroup together, carried out when they wait for it. It reads shared memory
// then, so operands that were overwritten too early give a wrong product.
#include "machine.h"
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
    float at(int row, int k) const {
        uint32_t address = start + (uint32_t)(row / 8) * group_bytes + (uint32_t)(row % 8) * 128 + (uint32_t)k * 2;
        address ^= (address >> 7 & 7) << 4;
        return to_float(*reinterpret_cast<bf16*>(shared(address, 2, 2)));
    }
};

// Sums in order of k, in f32.
static void carry_out(const Wgmma& product) {
    static thread_local float a[64][16], b[16][256], d[64][256];
    const Operand left(product.a), right(product.b);
    const int columns = (int)product.columns;
    for (int row = 0; row < 64; row++)
        for (int k = 0; k < 16; k++) a[row][k] = left.at(row, k);
    for (int column = 0; column < columns; column++)
        for (int k = 0; k < 16; k++) b[k][column] = right.at(column, k);

    auto fragments = [&](auto each) {
        for (int t = 0; t < 128; t++) {
            const int row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
            for (int i = 0; i < columns / 8; i++)
                for (int half = 0; half < 2; half++)
                    for (int j = 0; j < 2; j++)
                        each(d[row + half * 8][column + i * 8 + j], product.d[t][i * 4 + half * 2 + j]);
        }
    };
    fragments([](float& tile, float& own) { tile = own; });
    for (int row = 0; row < 64; row++)
        for (int k = 0; k < 16; k++) {
            const float x = a[row][k];
            for (int column = 0; column < columns; column++) d[row][column] += x * b[k][column];
        }
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

static void together(Kind kind, uint32_t number, float* d, uint64_t a, uint64_t b) {
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
        product.columns = number;
        product.group = group.group;
        for (int i = 0; i < 128; i++) product.d[i] = group.d[i];
    } else if (kind == COMMIT) {
        group.group++;
    } else {
        finish(group, number);
    }
    sanitizer::release(&group);
    for (uint32_t i = first; i < first + 128; i++)
        if (m.fibers[i].wait == Wait::warpgroup) m.wake(m.fibers[i]);
}

void wgmma_issue(float* d, uint32_t columns, uint64_t a, uint64_t b) { together(MULTIPLY, columns, d, a, b); }
void wgmma_commit() { together(COMMIT, 0, nullptr, 0, 0); }
void wgmma_wait(uint32_t pending) { together(WAIT, pending, nullptr, 0, 0); }

} // namespace emulator
