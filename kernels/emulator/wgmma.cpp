// wgmma: issued by the 128 threads of a warpgroup together, carried out when they wait for it. It reads shared memory
// then, so operands that were overwritten too early give a wrong product.
#include "machine.h"
#include <memory>
#include "sm90.h"

namespace emulator {

enum Kind : uint32_t { MULTIPLY, COMMIT, WAIT };

constexpr int ROWS = 64, MAX_COLUMNS = 128, DEPTH = 16;

// A piece of 16 bytes of an operand in shared memory; the swizzle exchanges the pieces of a row.
static void piece(uint32_t address, float* out) {
    const bf16* from = reinterpret_cast<const bf16*>(shared(address ^ (address >> 7 & 7) << 4, 16, 16));
    for (int i = 0; i < 8; i++) out[i] = to_float(from[i]);
}

// Operands are bf16, with the 128-byte swizzle, in groups of eight rows of 64.
struct Operand {
    uint32_t start, panel_bytes, group_bytes;
    explicit Operand(uint64_t descriptor)
        : start((uint32_t)(descriptor & 0x3fff) << 4), panel_bytes((uint32_t)(descriptor >> 16 & 0x3fff) << 4),
          group_bytes((uint32_t)(descriptor >> 32 & 0x3fff) << 4) {
        if (descriptor >> 62 != 1) fail("the emulator knows only operands with the 128-byte swizzle");
    }
    // K-major: the 16 values of k of a row lie in a row.
    void depth(int row, float* out) const {
        const uint32_t first = start + (uint32_t)(row / 8) * group_bytes + (uint32_t)(row % 8) * 128;
        piece(first, out);
        piece(first + 16, out + 8);
    }
    // MN-major: a row for each k; panels of 64 columns.
    void columns(int k, int count, float* out) const {
        const uint32_t first = start + (uint32_t)(k / 8) * group_bytes + (uint32_t)(k % 8) * 128;
        for (int n = 0; n < count; n += 8)
            piece(first + (uint32_t)(n / 64) * panel_bytes + (uint32_t)(n % 64) * 2, out + n);
    }
};

struct Tiles {
    alignas(32) float a[ROWS][DEPTH], b[DEPTH][MAX_COLUMNS], d[ROWS][MAX_COLUMNS];
};

// Sums in order of k, in f32.
WIDE static void multiply(Tiles& t, int columns) {
    for (int row = 0; row < ROWS; row++)
        for (int column = 0; column < columns; column += 8) {
            Floats sum = *reinterpret_cast<Floats*>(&t.d[row][column]);
            for (int k = 0; k < DEPTH; k++) sum += t.a[row][k] * *reinterpret_cast<Floats*>(&t.b[k][column]);
            *reinterpret_cast<Floats*>(&t.d[row][column]) = sum;
        }
}

// Thread t of the warpgroup has rows first_row(t) and 8 below it, columns first_column(t) and the next, of each 8.
static int first_row(int t) { return t / 32 * 16 + t % 32 / 4; }
static int first_column(int t) { return t % 4 * 2; }

static void left(const Wgmma& product, Tiles& tiles) {
    if (!product.registers) {
        const Operand a(product.a);
        for (int row = 0; row < ROWS; row++) a.depth(row, tiles.a[row]);
        return;
    }
    for (int t = 0; t < 128; t++)
        for (int r = 0; r < 4; r++) {
            const float2 pair = unpack_bf16x2(product.fragments[t][r]);
            float* to = &tiles.a[first_row(t) + r % 2 * 8][first_column(t) + r / 2 * 8];
            to[0] = pair.x;
            to[1] = pair.y;
        }
}

static void right(const Wgmma& product, Tiles& tiles) {
    const Operand b(product.b);
    if (product.transposed) {
        for (int k = 0; k < DEPTH; k++) b.columns(k, product.columns, tiles.b[k]);
        return;
    }
    for (int column = 0; column < product.columns; column++) {
        float values[DEPTH];
        b.depth(column, values);
        for (int k = 0; k < DEPTH; k++) tiles.b[k][column] = values[k];
    }
}

static void carry_out(const Wgmma& product) {
    // off the fiber's small stack, and not in the thread's static storage, of which a loaded library gets little
    static thread_local const std::unique_ptr<Tiles> own(new Tiles);
    Tiles& tiles = *own;
    left(product, tiles);
    right(product, tiles);
    auto fragments = [&](auto each) {
        for (int t = 0; t < 128; t++) {
            float* upper = &tiles.d[first_row(t)][first_column(t)];
            for (int i = 0; i < product.columns / 8; i++)
                for (int j = 0; j < 2; j++) {
                    each(upper[i * 8 + j], product.d[t][i * 4 + j]);
                    each(upper[8 * MAX_COLUMNS + i * 8 + j], product.d[t][i * 4 + 2 + j]);
                }
        }
    };
    fragments([](float& tile, float& own) { tile = own; });
    multiply(tiles, product.columns);
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

static void together(Kind kind, uint32_t pending, float* d, const WgmmaOperands& operands) {
    Multiprocessor& m = *processor;
    Fiber& fiber = *self();
    const uint32_t first = fiber.linear / 128 * 128;
    Warpgroup& group = m.warpgroups[fiber.linear / 128];
    if (first + 128 > m.fibers.size()) fail("the block's last warpgroup has fewer than 128 threads");
    Wgmma& next = group.next;
    if (!group.arrived) {
        group.kind = kind;
        group.site = fiber.site;
        next.a = operands.a;
        next.b = operands.b;
        next.columns = operands.columns;
        next.registers = operands.fragment != nullptr;
        next.transposed = operands.transposed;
    } else if (group.kind != kind || group.site.line != fiber.site.line || next.a != operands.a ||
               next.b != operands.b) {
        fail("the threads of a warpgroup must execute it together, with the same operands; others are at line %d",
             group.site.line);
    }
    const uint32_t thread = fiber.linear - first;
    next.d[thread] = d;
    // read now: the compiler keeps registers of a product that is under way
    if (operands.fragment) __builtin_memcpy(next.fragments[thread], operands.fragment, sizeof next.fragments[thread]);
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
        next.group = group.group;
        group.queue[group.queued++] = next;
    } else if (kind == COMMIT) {
        group.group++;
    } else {
        finish(group, pending);
    }
    sanitizer::release(&group);
    for (uint32_t i = first; i < first + 128; i++)
        if (m.fibers[i].wait == Wait::warpgroup) m.wake(m.fibers[i]);
}

void wgmma_issue(float* d, const WgmmaOperands& operands) { together(MULTIPLY, 0, d, operands); }
void wgmma_commit() { together(COMMIT, 0, nullptr, {}); }
void wgmma_wait(uint32_t pending) { together(WAIT, pending, nullptr, {}); }

} // namespace emulator
