// What the sanitizers must be told: fibers are not threads they know, and instructions touch memory on a thread's
// behalf. Without a sanitizer every function here is empty.
//
// Under ThreadSanitizer each CUDA thread is a TSan fiber. Kernels are instrumented; the emulator itself is not (it is
// compiled with EYEKERN_TSAN alone), since it acts for many threads at once.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_THREAD__) && !defined(EYEKERN_TSAN)
#define EYEKERN_TSAN
#endif

extern "C" {
#if defined(EYEKERN_TSAN)
void __tsan_read_range(void*, size_t);
void __tsan_write_range(void*, size_t);
void __tsan_acquire(void*);
void __tsan_release(void*);
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void*);
void __tsan_switch_to_fiber(void*, unsigned);
#endif
#if defined(__SANITIZE_ADDRESS__)
void __sanitizer_start_switch_fiber(void**, const void*, size_t);
void __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
void __asan_poison_memory_region(const volatile void*, size_t);
void __asan_unpoison_memory_region(const volatile void*, size_t);
#endif
}

namespace emulator::sanitizer {
#define SANITIZER_HOOK inline __attribute__((always_inline)) void

#if defined(EYEKERN_TSAN)
// Always inlined, so that a report names the kernel's line.
SANITIZER_HOOK reads(const void* p, size_t bytes) { __tsan_read_range(const_cast<void*>(p), bytes); }
SANITIZER_HOOK writes(void* p, size_t bytes) { __tsan_write_range(p, bytes); }
SANITIZER_HOOK acquire(void* order) { __tsan_acquire(order); }
SANITIZER_HOOK release(void* order) { __tsan_release(order); }
#else
SANITIZER_HOOK reads(const void*, size_t) {}
SANITIZER_HOOK writes(void*, size_t) {}
SANITIZER_HOOK acquire(void*) {}
SANITIZER_HOOK release(void*) {}
#endif

#if defined(__SANITIZE_ADDRESS__)
SANITIZER_HOOK poison(const void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
SANITIZER_HOOK unpoison(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
SANITIZER_HOOK poison(const void*, size_t) {}
SANITIZER_HOOK unpoison(const void*, size_t) {}
#endif
#undef SANITIZER_HOOK
} // namespace emulator::sanitizer
