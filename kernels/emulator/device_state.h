// The device behind the C interface. One launch at a time, as on one stream.
#pragma once
#include "device.h"
#include "machine.h"
#include <map>
#include <memory>

struct Allocation {
    uint64_t bytes;
    bool sparse;
};

struct EyekernDevice {
    std::mutex mutex;
    uint64_t capacity = 0, used = 0;
    std::map<uint64_t, Allocation> allocations; // by address
    std::vector<std::unique_ptr<emulator::Multiprocessor>> processors;

    ~EyekernDevice();
    unsigned char* find(uint64_t address, uint64_t bytes, std::string& why);
    std::vector<emulator::Extent> extents() const;
    std::string find_damage();
    void release(uint64_t address, Allocation held);
    std::string full(uint64_t bytes) const;
    bool has_room(uint64_t bytes) const { return bytes <= capacity - used; }
    uint64_t keep(unsigned char* begin, Allocation held);
};

// Writes `why` for the caller; 0 if there is nothing to report.
int report(char* error, size_t size, const std::string& why);
