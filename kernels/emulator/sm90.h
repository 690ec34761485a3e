// The wrappers of sm90.cuh, carried out on the host.
#pragma once
#include "emulator.h"

struct TensorMap;

namespace emulator {
void mbarrier_init(uint32_t mbarrier, uint32_t arrivals);
void mbarrier_arrive(uint32_t mbarrier, uint32_t bytes);
void mbarrier_wait(uint32_t mbarrier, uint32_t parity);
void tma_load(uint32_t to, const void* map, uint32_t mbarrier, int column, int row);
// A product of a warpgroup, d [64, columns] += a b. `fragment`, where it is not null, is a in registers.
struct WgmmaOperands {
    int columns;
    const uint32_t* fragment;
    uint64_t a, b;
    bool transposed;
};
void wgmma_issue(float* d, const WgmmaOperands& operands);
void wgmma_commit();
void wgmma_wait(uint32_t pending);
} // namespace emulator

DEVICE void mbarrier_init(uint32_t mbarrier, uint32_t arrivals, CALLER) {
    emulator::enter("mbarrier_init", at);
    emulator::mbarrier_init(mbarrier, arrivals);
}
DEVICE void mbarrier_fence_init() {}
DEVICE void mbarrier_arrive(uint32_t mbarrier, CALLER) {
    emulator::enter("mbarrier_arrive", at);
    emulator::mbarrier_arrive(mbarrier, 0);
}
DEVICE void mbarrier_arrive_expect(uint32_t mbarrier, uint32_t bytes, CALLER) {
    emulator::enter("mbarrier_arrive_expect", at);
    emulator::mbarrier_arrive(mbarrier, bytes);
}
DEVICE void mbarrier_wait(uint32_t mbarrier, uint32_t parity, CALLER) {
    emulator::enter("mbarrier_wait", at);
    emulator::mbarrier_wait(mbarrier, parity);
}
DEVICE void tma_load_2d(uint32_t to, const TensorMap* map, uint32_t mbarrier, int column, int row, CALLER) {
    emulator::enter("tma_load_2d", at);
    emulator::tma_load(to, map, mbarrier, column, row);
}
DEVICE void fence_async_shared() {}
DEVICE void wgmma_fence() {}
DEVICE void pin(float&) {}
DEVICE void pin(uint32_t&) {}
DEVICE void wgmma_commit(CALLER) {
    emulator::enter("wgmma_commit", at);
    emulator::wgmma_commit();
}
template <int Pending> DEVICE void wgmma_wait(CALLER) {
    emulator::enter("wgmma_wait", at);
    emulator::wgmma_wait(Pending);
}
DEVICE void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b, CALLER) {
    emulator::enter("wgmma_m64n128k16", at);
    emulator::wgmma_issue(d, {128, nullptr, a, b, false});
}
DEVICE void wgmma_m64n64k16(float (&d)[8][4], uint64_t a, uint64_t b, CALLER) {
    emulator::enter("wgmma_m64n64k16", at);
    emulator::wgmma_issue(d[0], {64, nullptr, a, b, false});
}
template <bool Transposed> DEVICE void wgmma_m64n64k16(float (&d)[8][4], const uint32_t (&a)[4], uint64_t b, CALLER) {
    emulator::enter("wgmma_m64n64k16", at);
    emulator::wgmma_issue(d[0], {64, a, 0, b, Transposed});
}
template <bool Transposed> DEVICE void wgmma_m64n128k16(float (&d)[16][4], const uint32_t (&a)[4], uint64_t b, CALLER) {
    emulator::enter("wgmma_m64n128k16", at);
    emulator::wgmma_issue(d[0], {128, a, 0, b, Transposed});
}
template <int Registers> DEVICE void setmaxnreg_dec() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0, "24 to 256, a multiple of 8");
}
template <int Registers> DEVICE void setmaxnreg_inc() {
    static_assert(Registers >= 24 && Registers <= 256 && Registers % 8 == 0, "24 to 256, a multiple of 8");
}
