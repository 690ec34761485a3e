// Memory of the device, between red zones. Instructions that go through wrappers are checked before they touch it;
// what plain pointers write into a red zone is found after the launch (or by AddressSanitizer, at once).
#include "device_state.h"
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>

namespace emulator {

// NaN as f32 and as bf16, and not what unwritten memory holds, so that even a copied poison shows.
static const unsigned char RED[2] = {0xed, 0x7f};

void write_red_zone(unsigned char* begin, size_t bytes) {
    sanitizer::unpoison(begin, bytes);
    for (size_t i = 0; i < bytes; i++) begin[i] = RED[i % 2];
    sanitizer::poison(begin, bytes);
}

bool red_zone_intact(const unsigned char* begin, size_t bytes, size_t* first) {
#if !defined(__SANITIZE_ADDRESS__)
    for (size_t i = 0; i < bytes; i++)
        if (begin[i] != RED[i % 2]) return *first = i, false;
#else
    (void)begin, (void)bytes, (void)first;
#endif
    return true;
}

// ---- checks of a running kernel

static const Extent* extent_of(const void* p) {
    Multiprocessor& m = *processor;
    const std::vector<Extent>& memory = *m.launch->memory;
    const unsigned char* at = static_cast<const unsigned char*>(p);
    auto holds = [at](const Extent& e) { return at >= e.begin && (size_t)(at - e.begin) < e.bytes; };
    if (m.last_extent < memory.size() && holds(memory[m.last_extent])) return &memory[m.last_extent];
    auto next = std::upper_bound(memory.begin(), memory.end(), at,
                                 [](const unsigned char* a, const Extent& e) { return a < e.begin; });
    if (next == memory.begin()) return nullptr;
    if (!holds(*--next)) return nullptr;
    m.last_extent = (size_t)(next - memory.begin());
    return &*next;
}

// The allocation that an address outside all of them probably belongs to.
static __attribute__((cold, noreturn)) void fail_global(const void* p, uint32_t bytes) {
    const unsigned char* at = static_cast<const unsigned char*>(p);
    for (const Extent& e : *processor->launch->memory) {
        if (at >= e.begin + e.bytes - RED_ZONE / 2 - bytes && at < e.begin + e.bytes + RED_ZONE && at >= e.begin)
            fail("%u bytes at %p reach past the end of an allocation of %zu bytes, at its byte %td", bytes, p, e.bytes,
                 at - e.begin);
        if (at < e.begin && at >= e.begin - RED_ZONE)
            fail("%u bytes at %p begin %td bytes before an allocation of %zu bytes", bytes, p, e.begin - at, e.bytes);
    }
    fail("%u bytes at %p lie in no memory of the device", bytes, p);
}

void check_global(const void* p, uint32_t bytes, uint32_t align) {
    const Extent* extent = extent_of(p);
    if (!extent || bytes > extent->bytes - (size_t)(static_cast<const unsigned char*>(p) - extent->begin))
        fail_global(p, bytes);
    if ((uintptr_t)p & (align - 1)) fail("%u bytes at %p are not aligned to %u", bytes, p, align);
}

void check_anywhere(const void* p, uint32_t bytes, uint32_t align) {
    uint64_t offset = (uint64_t)((uintptr_t)p - (uintptr_t)block.shared);
    if (offset + RED_ZONE < block.shared_bytes + 2 * RED_ZONE) shared(SHARED_BASE + (uint32_t)offset, bytes, align);
    else check_global(p, bytes, align);
}

void fail_shared(uint32_t address, uint32_t bytes, uint32_t align) {
    int64_t offset = (int64_t)(int32_t)(address - SHARED_BASE);
    if (address & (align - 1))
        fail("%u bytes at byte %lld of shared memory are not aligned to %u", bytes, (long long)offset, align);
    fail("%u bytes at byte %lld of shared memory are outside its %u bytes", bytes, (long long)offset,
         block.shared_bytes);
}

} // namespace emulator

// ---- the host's side

using namespace emulator;

int report(char* error, size_t size, const std::string& why) {
    if (why.empty()) return 0;
    if (error && size) snprintf(error, size, "%s", why.c_str());
    return 1;
}

// A sparse allocation has a page in front, for its red zone.
constexpr uint64_t PAGE = 4096;
static uint64_t sparse_bytes(uint64_t bytes) { return PAGE + bytes + RED_ZONE; }

std::string EyekernDevice::full(uint64_t bytes) const {
    return "out of memory: " + std::to_string(bytes) + " bytes were asked for and " + std::to_string(capacity - used) +
           " are free";
}

// The host address of `bytes` at `address`, or null with the reason.
unsigned char* EyekernDevice::find(uint64_t address, uint64_t bytes, std::string& why) {
    auto next = allocations.upper_bound(address);
    if (next != allocations.begin()) {
        const uint64_t begin = (--next)->first, held = next->second.bytes;
        if (address - begin <= held && bytes <= held - (address - begin))
            return reinterpret_cast<unsigned char*>(address);
        if (address - begin <= held) {
            why = std::to_string(bytes) + " bytes at byte " + std::to_string(address - begin) +
                  " reach past the end of an allocation of " + std::to_string(held) + " bytes";
            return nullptr;
        }
    }
    char text[96];
    snprintf(text, sizeof text, "0x%llx lies in no memory of the device", (unsigned long long)address);
    why = text;
    return nullptr;
}

void EyekernDevice::release(uint64_t address, Allocation held) {
    unsigned char* begin = reinterpret_cast<unsigned char*>(address);
    sanitizer::unpoison(begin - RED_ZONE, RED_ZONE);
    sanitizer::unpoison(begin + held.bytes, RED_ZONE);
    if (held.sparse) munmap(begin - PAGE, sparse_bytes(held.bytes));
    else free(begin - RED_ZONE);
}

// Takes over what `begin` points to; its address.
uint64_t EyekernDevice::keep(unsigned char* begin, Allocation held) {
    write_red_zone(begin - RED_ZONE, RED_ZONE);
    write_red_zone(begin + held.bytes, RED_ZONE);
    const uint64_t address = reinterpret_cast<uint64_t>(begin);
    allocations[address] = held;
    used += held.bytes;
    return address;
}

EyekernDevice::~EyekernDevice() {
    for (const auto& [address, held] : allocations) release(address, held);
}

std::vector<Extent> EyekernDevice::extents() const {
    std::vector<Extent> list;
    for (const auto& [address, held] : allocations)
        list.push_back({reinterpret_cast<unsigned char*>(address), (size_t)held.bytes});
    return list;
}

// What was written outside of allocations since the last look.
std::string EyekernDevice::find_damage() {
    for (const auto& [address, held] : allocations) {
        const uint64_t bytes = held.bytes;
        unsigned char* begin = reinterpret_cast<unsigned char*>(address);
        size_t where = 0;
        std::string place;
        if (!red_zone_intact(begin - RED_ZONE, RED_ZONE, &where))
            place = std::to_string(RED_ZONE - where) + " bytes before";
        else if (!red_zone_intact(begin + bytes, RED_ZONE, &where))
            place = std::to_string(where) + " bytes past the end of";
        else continue;
        write_red_zone(begin - RED_ZONE, RED_ZONE);
        write_red_zone(begin + bytes, RED_ZONE);
        return "global memory was written " + place + " an allocation of " + std::to_string(bytes) + " bytes";
    }
    return "";
}

EyekernDevice* eyekern_device_open(uint64_t capacity) {
    EyekernDevice* device = new EyekernDevice;
    device->capacity = capacity;
    return device;
}

void eyekern_device_close(EyekernDevice* device) { delete device; }

uint64_t eyekern_device_free_bytes(EyekernDevice* device) {
    std::lock_guard<std::mutex> lock(device->mutex);
    return device->capacity - device->used;
}

int eyekern_device_alloc(EyekernDevice* device, uint64_t bytes, uint64_t* address, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    if (bytes == 0) return report(error, size, "an allocation of 0 bytes");
    void* p = nullptr;
    if (!device->has_room(bytes) || posix_memalign(&p, 256, bytes + 2 * RED_ZONE))
        return report(error, size, device->full(bytes));
    unsigned char* begin = static_cast<unsigned char*>(p) + RED_ZONE;
    memset(begin, POISON, bytes);
    *address = device->keep(begin, {bytes, false});
    return 0;
}

int eyekern_device_alloc_sparse(EyekernDevice* device, uint64_t bytes, uint64_t* address, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    if (bytes == 0) return report(error, size, "an allocation of 0 bytes");
    if (!device->has_room(bytes)) return report(error, size, device->full(bytes));
    void* p =
        mmap(nullptr, sparse_bytes(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return report(error, size, device->full(bytes));
    *address = device->keep(static_cast<unsigned char*>(p) + PAGE, {bytes, true});
    return 0;
}

int eyekern_device_free(EyekernDevice* device, uint64_t address, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    auto entry = device->allocations.find(address);
    if (entry == device->allocations.end()) return report(error, size, "no allocation begins at the address to free");
    device->release(address, entry->second);
    device->used -= entry->second.bytes;
    device->allocations.erase(entry);
    return 0;
}

int eyekern_device_write(EyekernDevice* device, uint64_t to, const void* from, uint64_t bytes, char* error,
                         size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    std::string why;
    unsigned char* p = device->find(to, bytes, why);
    if (p && bytes) memcpy(p, from, bytes);
    return report(error, size, why);
}

int eyekern_device_read(EyekernDevice* device, void* to, uint64_t from, uint64_t bytes, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    std::string why;
    unsigned char* p = device->find(from, bytes, why);
    if (p && bytes) memcpy(to, p, bytes);
    return report(error, size, why);
}

int eyekern_device_fill(EyekernDevice* device, uint64_t to, uint8_t value, uint64_t bytes, char* error, size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    std::string why;
    unsigned char* p = device->find(to, bytes, why);
    if (p && bytes) memset(p, value, bytes);
    return report(error, size, why);
}
