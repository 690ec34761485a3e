// The device behind the C interface. One launch at a time, as on one stream.
#pragma once
#include "device.h"
#include "machine.h"
#include <map>
#include <memory>

struct EyekernDevice {
    std::mutex mutex;
    uint64_t capacity = 0, used = 0;
    std::map<uint64_t, uint64_t> allocations; // address -> bytes
    std::vector<std::unique_ptr<emulator::Multiprocessor>> processors;

    ~EyekernDevice();
    unsigned char* find(uint64_t address, uint64_t bytes, std::string& why);
    std::vector<emulator::Extent> extents() const;
    std::string find_damage();
    void release(uint64_t address, uint64_t bytes);
};

// Writes `why` for the caller; 0 if there is nothing to report.
int report(char* error, size_t size, const std::string& why);
