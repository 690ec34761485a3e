// Where threads meet: warp operations, barriers, shuffles.
#include "machine.h"

namespace emulator {

static const char* name_of(const char* path) {
    const char* slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file)); }

void warp_collective(WarpOperation execute, void* operands) {
    Multiprocessor& m = *processor;
    Fiber& fiber = *self();
    Warp& warp = m.warps[fiber.warp];
    if (!warp.arrived) {
        warp.execute = execute;
        warp.operation = fiber.operation;
        warp.site = fiber.site;
    } else if (warp.execute != execute || !same(warp.site, fiber.site)) {
        fail("the lanes of a warp must execute it together, but others are in %s at %s:%d", warp.operation,
             name_of(warp.site.file), warp.site.line);
    }
    if (warp.live != ~0u)
        fail("all 32 lanes must take part, but of this warp only %d are left", __builtin_popcount(warp.live));
    warp.operands[fiber.lane] = operands;
    warp.arrived |= 1u << fiber.lane;
    sanitizer::release(&warp);
    if (warp.arrived == ~0u) {
        sanitizer::acquire(&warp);
        warp.arrived = 0;
        execute(warp.operands);
        sanitizer::release(&warp);
        warp.ready = ~0u;
        m.ready_warps |= 1u << fiber.warp;
        for (uint32_t lane = 0; lane < 32; lane++) m.fibers[fiber.warp * 32 + lane].wait = Wait::none;
    } else {
        m.sleep(Wait::warp, fiber.warp);
        sanitizer::acquire(&m.warps[fiber.warp]);
    }
}

void barrier(int id, uint32_t threads, bool wait) {
    Multiprocessor& m = *processor;
    if ((unsigned)id >= BARRIERS) fail("there are barriers 0 to 15, not %d", id);
    if (threads % 32 || threads > m.fibers.size())
        fail("a barrier of %u threads in a block of %zu; it must be a multiple of 32", threads, m.fibers.size());
    BarrierState& state = m.barriers[id];
    const Site site = self()->site;
    if (!state.arrived) {
        state.threads = threads;
        state.site = site;
    } else if (state.threads != threads) {
        fail("others expect %u threads at barrier %d, not %u", state.threads, id, threads);
    } else if (!threads && !same(state.site, site)) {
        // both would be released together on a GPU as well, but the program meant two barriers
        fail("divergent barrier: others wait at %s:%d", name_of(state.site.file), state.site.line);
    }
    state.arrived++;
    sanitizer::release(&state);
    if (state.arrived == (threads ? threads : m.live)) {
        state.arrived = 0;
        for (Fiber& other : m.fibers)
            if (other.wait == Wait::barrier && other.wait_on == (uint32_t)id) m.wake(other);
    } else if (wait) {
        m.sleep(Wait::barrier, (uint32_t)id);
    }
    if (wait) sanitizer::acquire(&state);
}

void exchange(void** operands) {
    Exchange** lane = reinterpret_cast<Exchange**>(operands);
    for (int i = 0; i < 32; i++) lane[i]->result = lane[lane[i]->lane & 31]->value;
}

void exchange_xor(void** operands) {
    Exchange** lane = reinterpret_cast<Exchange**>(operands);
    for (int i = 0; i < 32; i++) lane[i]->result = lane[i ^ (lane[i]->lane & 31)]->value;
}

void vote(void** operands) {
    Exchange** lane = reinterpret_cast<Exchange**>(operands);
    uint32_t votes = 0;
    for (int i = 0; i < 32; i++) votes |= (lane[i]->value ? 1u : 0u) << i;
    for (int i = 0; i < 32; i++) lane[i]->result = votes;
}

} // namespace emulator
