// cp.async. A copy may land at any time between its issue and the wait for it, so it does both: the destination is
// destroyed at once, and the bytes are read and written as late as possible. A missing wait or barrier reads NaN.
#include "machine.h"

namespace emulator {

void copy_async(uint32_t to, const void* from, bool keep) {
    Fiber& fiber = *self();
    if (fiber.copies == MAX_COPIES) fail("more than %u copies of one thread in flight", MAX_COPIES);
    if ((uintptr_t)from % 16) fail("the source is not aligned to 16 bytes");
    unsigned char* destination = shared(to, 16, 16);
    fill16(destination, POISON);
    fiber.copy[fiber.copies++] = {destination, from, fiber.group, keep};
}

void copy_async_commit() { self()->group++; }

void copy_async_wait(uint32_t pending) {
    Fiber& fiber = *self();
    uint32_t left = 0;
    for (uint32_t i = 0; i < fiber.copies; i++) {
        Copy& copy = fiber.copy[i];
        if (copy.group + pending >= fiber.group) {
            fiber.copy[left++] = copy;
        } else if (copy.keep) {
            copy16(copy.to, copy.from);
        } else {
            fill16(copy.to, 0);
        }
    }
    fiber.copies = left;
}

} // namespace emulator
