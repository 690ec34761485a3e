// Memory straight from the system, for what threads of many blocks use one after the other.
#pragma once
#include "sanitizer.h"
#include <cstddef>
#include <new>
#include <sys/mman.h>

namespace emulator {

template <class T> class Pages {
  public:
    Pages() = default;
    Pages(const Pages&) = delete;
    ~Pages() { release(); }

    // Room for `n` elements, all bits zero where it is new; true if it moved.
    bool resize(size_t n) {
        count = n;
        if (n <= capacity) return false;
        release();
        first = static_cast<T*>(map(nullptr, n, 0));
        capacity = n;
        return true;
    }

    // New pages in the same place. ThreadSanitizer knows no history of them.
    void renew() {
        munmap(first, capacity * sizeof(T));
        map(first, capacity, MAP_FIXED_NOREPLACE);
    }

    T* begin() { return first; }
    T* end() { return first + count; }
    const T* begin() const { return first; }
    const T* end() const { return first + count; }
    T& operator[](size_t i) { return first[i]; }
    size_t size() const { return count; }

  private:
    T* first = nullptr;
    size_t count = 0, capacity = 0;

    static void* map(void* at, size_t n, int flags) {
        void* p =
            mmap(at, n * sizeof(T), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
        if (p == MAP_FAILED) throw std::bad_alloc();
        return p;
    }
    void release() {
        if (first) {
            sanitizer::unpoison(first, capacity * sizeof(T)); // the next one to get these addresses knows nothing of us
            munmap(first, capacity * sizeof(T));
        }
        first = nullptr;
        capacity = 0;
    }
};

} // namespace emulator
