// Memory faults of a kernel (a wild or null pointer, an overflowing stack, a division by zero) end the launch, not the
// process.
#pragma once

namespace emulator {

// While it lives, faults of the emulated threads on this host thread are turned into failures of the launch.
class FaultGuard {
  public:
    FaultGuard();
    ~FaultGuard();
    FaultGuard(const FaultGuard&) = delete;
};

} // namespace emulator
