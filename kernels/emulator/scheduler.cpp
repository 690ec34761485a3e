// A block is one fiber per thread. A fiber runs until it has to wait for others; with seed 0 the next one is the next
// lane of the same warp, with another seed a random one. No seed may change what a correct kernel computes.
#include "faults.h"
#include "machine.h"
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>

namespace emulator {

__thread Thread* current;
__thread Block block;
__thread Multiprocessor* processor;

constexpr size_t ARENA_OFFSET = 1024; // of shared memory in its pages: keeps its alignment, leaves room for a red zone
static_assert(ARENA_OFFSET >= RED_ZONE, "room for a red zone");

// Equal offsets in all stacks would map to the same sets of a 4 KiB-way cache.
static size_t colour(uint32_t thread) { return (thread % 64) * 448; }

uint32_t Multiprocessor::draw(uint32_t n) { // xorshift64
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return (uint32_t)((random >> 32) % n);
}

// ---- switching

void Multiprocessor::switch_to(Fiber* fiber) {
    Fiber* from = self();
    Context& save = from ? from->context : host;
    Context& to = fiber ? fiber->context : host;
#if defined(EYEKERN_TSAN)
    __tsan_switch_to_fiber(fiber ? fiber->tsan : host_tsan, 1); // 1: the switch itself orders nothing
#endif
#if defined(__SANITIZE_ADDRESS__)
    void* fake = nullptr;
    if (fiber) __sanitizer_start_switch_fiber(&fake, fiber->stack, STACK);
    else __sanitizer_start_switch_fiber(&fake, host_stack, host_stack_bytes);
#endif
    current = fiber;
    switch_context(save, to);
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(fake, &bottom, &bytes);
#endif
}

void Multiprocessor::to_host() { switch_to(nullptr); }

void Multiprocessor::wake(Fiber& fiber) {
    fiber.wait = Wait::none;
    warps[fiber.warp].ready |= 1u << fiber.lane;
    ready_warps |= 1u << fiber.warp;
}

void Multiprocessor::sleep(Wait wait, uint32_t on) {
    Fiber* fiber = self();
    fiber->wait = wait;
    fiber->wait_on = on;
    Warp& warp = warps[fiber->warp];
    warp.ready &= ~(1u << fiber->lane);
    if (!warp.ready) ready_warps &= ~(1u << fiber->warp);
    suspend();
}

// The lowest set bit at or, cyclically, after `start`.
static uint32_t next_bit(uint32_t bits, uint32_t start) {
    uint32_t above = bits & (~0u << start);
    return (uint32_t)__builtin_ctz(above ? above : bits);
}

Fiber* Multiprocessor::pick() {
    if (!ready_warps) return nullptr;
    uint32_t warp = next_bit(ready_warps, shuffle ? draw(32) : current ? self()->warp : 0);
    uint32_t lane = next_bit(warps[warp].ready, shuffle ? draw(32) : 0);
    return &fibers[warp * 32 + lane];
}

void Multiprocessor::suspend() {
    if (shuffle && tma_loads && draw(8) == 0) complete_tma_load();
    Fiber* next = pick();
    while (!next && complete_tma_load()) next = pick();
    if (!next) {
        describe_deadlock();
        to_host();
    }
    if (next != current) switch_to(next);
}

// ---- failure: the launch ends, the stacks of the block are abandoned

void fail(const char* format, ...) {
    va_list list;
    va_start(list, format);
    char why[512];
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    Multiprocessor& m = *processor;
    const Thread& t = *current;
    const char* file = t.site.file ? t.site.file : "";
    if (const char* slash = strrchr(file, '/')) file = slash + 1;
    char place[160] = "";
    if (t.operation) snprintf(place, sizeof place, "%s:%d: %s: ", file, t.site.line, t.operation);
    snprintf(m.error, sizeof m.error, "%s%s; block (%u, %u, %u), thread (%u, %u, %u)", place, why, block.index.x,
             block.index.y, block.index.z, t.index.x, t.index.y, t.index.z);
    m.failed = true;
    sanitizer::release(&m);
    m.to_host();
    abort(); // a thread that failed is never resumed
}

void Multiprocessor::describe_deadlock() {
    std::map<std::string, uint32_t> waiting;
    uint32_t returned = 0;
    for (const Fiber& fiber : fibers) {
        if (fiber.wait == Wait::returned) {
            returned++;
            continue;
        }
        const char* file = fiber.site.file;
        if (const char* slash = strrchr(file, '/')) file = slash + 1;
        waiting[std::string(fiber.operation) + " at " + file + ":" + std::to_string(fiber.site.line)]++;
    }
    std::string text = "no thread can go on:";
    for (const auto& [place, count] : waiting) text += " " + std::to_string(count) + " wait in " + place + ",";
    text += " " + std::to_string(returned) + " have returned";
    snprintf(error, sizeof error, "%s; block (%u, %u, %u)", text.c_str(), block.index.x, block.index.y, block.index.z);
    failed = true;
    sanitizer::release(this);
}

// ---- a block

void Multiprocessor::begin() {
    Multiprocessor& m = *processor;
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
    if (!m.host_stack) m.host_stack = bottom, m.host_stack_bytes = bytes; // the first fiber was entered from the host
#endif
    sanitizer::acquire(m.launch);
    m.launch->kernel->call(m.launch->arguments);
    check_nothing_in_flight();
    sanitizer::release(&m.launch->next);

    Fiber* fiber = self();
    Warp& warp = m.warps[fiber->warp];
    warp.live &= ~(1u << fiber->lane);
    m.live--;
    // those who wait for all threads no longer wait for this one
    BarrierState& all = m.barriers[0];
    if (m.live && all.arrived == m.live) {
        all.arrived = 0;
        for (Fiber& other : m.fibers)
            if (other.wait == Wait::barrier && other.wait_on == 0) m.wake(other);
    }
    if (m.live) m.sleep(Wait::returned, 0);
    fiber->wait = Wait::returned;
    m.to_host();
}

void Multiprocessor::reserve(uint32_t threads, uint32_t shared_bytes) {
    if (stacks.resize(threads)) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(EYEKERN_TSAN)
        for (Stack& stack : stacks) mprotect(stack.bytes, GUARD, PROT_NONE);
#endif
    }
    fibers.resize(threads);
    warps.resize((threads + 31) / 32);
    warpgroups.resize((threads + 127) / 128);
    barriers.resize(BARRIERS);
    sanitizer::unpoison(arena.begin(), arena.size());
    arena.resize(ARENA_OFFSET + shared_bytes + RED_ZONE);
}

bool Multiprocessor::in_guard_page(const void* address) const {
    const size_t offset = (size_t)(static_cast<const char*>(address) - stacks.begin()->bytes);
    return offset < STACK * stacks.size() && offset % STACK < GUARD;
}

// Blocks are not ordered among each other, but they use the same memory here. ThreadSanitizer knows no history of pages
// that were just mapped or allocated, and so compares blocks only where they meet, in global memory.
void Multiprocessor::forget_history() {
#if defined(EYEKERN_TSAN)
    stacks.renew();
    arena.renew();
    fibers.renew();
    warps.renew();
    warpgroups.renew();
    barriers.renew();
    host_tsan = __tsan_get_current_fiber();
    sanitizer::release(launch);
#endif
}

// ThreadSanitizer gives a finished thread's number to a new one, and then sees no races between the two; but it has
// numbers for no more than 8000. So the threads of some blocks are kept.
void Multiprocessor::forget_threads() {
#if defined(EYEKERN_TSAN)
    for (void* fiber : finished_tsan) __tsan_destroy_fiber(fiber);
    finished_tsan.clear();
#endif
}

void Multiprocessor::prepare_block(uint64_t number) {
    forget_history();
    const uint3 size = launch->block, grid = launch->grid;
    const uint32_t threads = size.x * size.y * size.z;
    block.index = {launch->first + (unsigned)(number % launch->columns), (unsigned)(number / launch->columns % grid.y),
                   (unsigned)(number / launch->columns / grid.y)};
    block.size = size;
    block.grid = grid;
    block.shared = arena.begin() + ARENA_OFFSET;
    block.shared_bytes = launch->shared_bytes;
    memset(block.shared, POISON, block.shared_bytes);
    write_red_zone(block.shared - RED_ZONE, RED_ZONE);
    write_red_zone(block.shared + block.shared_bytes, RED_ZONE);

    failed = false;
    shuffle = launch->seed != 0;
    random = (launch->seed + 1) * 0x9E3779B97F4A7C15ull ^ (number + 1) * 0xBF58476D1CE4E5B9ull;
    tma_loads = 0;
    live = threads;
    for (BarrierState& barrier : barriers) barrier.arrived = 0;
    for (Warpgroup& group : warpgroups) group.arrived = group.group = group.queued = 0;
    for (Warp& warp : warps) warp.arrived = 0, warp.ready = warp.live = ~0u;
    if (threads % 32) warps[threads / 32].ready = warps[threads / 32].live = (1u << threads % 32) - 1;
    ready_warps = (uint32_t)((1ull << warps.size()) - 1);

    // frames of threads that never returned to their callers leave their red zones behind
    sanitizer::unpoison(stacks.begin(), STACK * threads);
    for (uint32_t i = 0; i < threads; i++) {
        Fiber& fiber = fibers[i];
        fiber.index = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
        fiber.linear = i;
        fiber.lane = i % 32;
        fiber.warp = i / 32;
        fiber.operation = nullptr;
        fiber.site = {nullptr, 0};
        fiber.wait = Wait::none;
        fiber.group = fiber.copies = 0;
        fiber.stack = stacks[i].bytes;
        prepare(fiber.context, fiber.stack, STACK - colour(i), begin);
#if defined(EYEKERN_TSAN)
        fiber.tsan = __tsan_create_fiber(0);
#endif
    }
}

void Multiprocessor::check_end(uint64_t number) {
    sanitizer::acquire(this);
    if (!failed && tma_loads) {
        snprintf(error, sizeof error, "the block ended with %u TMA loads in flight", tma_loads);
        failed = true;
    }
    size_t where = 0;
    bool below = !red_zone_intact(block.shared - RED_ZONE, RED_ZONE, &where);
    bool above = !below && !red_zone_intact(block.shared + block.shared_bytes, RED_ZONE, &where);
    if (!failed && (below || above)) {
        snprintf(error, sizeof error, "shared memory was written %zu bytes %s its %u bytes; block (%u, %u, %u)",
                 below ? RED_ZONE - where : where, below ? "before" : "past the end of", block.shared_bytes,
                 block.index.x, block.index.y, block.index.z);
        failed = true;
    }
    if (!failed) return;
    std::lock_guard<std::mutex> lock(launch->mutex);
    if (number < launch->failed) launch->failed = number, launch->error = error;
}

void Multiprocessor::run_block(uint64_t number) {
    prepare_block(number);
    current = nullptr;
    switch_to(pick());
    check_end(number);
#if defined(EYEKERN_TSAN)
    for (Fiber& fiber : fibers) finished_tsan.push_back(fiber.tsan);
    if (finished_tsan.size() > 2 * MAX_THREADS) forget_threads();
#endif
}

void Multiprocessor::run(Launch& of) {
    launch = &of;
    host_stack = nullptr;
    last_extent = 0;
    uint3 size = of.block;
    reserve(size.x * size.y * size.z, of.shared_bytes);
    const FaultGuard guard;
    processor = this;
    while (!failed) {
        uint64_t number = of.next++;
        if (number >= of.blocks() || number > of.failed) break;
        run_block(number);
    }
    forget_threads();
    failed = false;
    processor = nullptr;
}

} // namespace emulator
