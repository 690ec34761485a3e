// Kernels by name, and their launch.
#include "device_state.h"
#include <cstdio>
#include <thread>

namespace emulator {

static std::map<std::string, Kernel>& kernels() { // filled by static constructors, hence no static object
    static std::map<std::string, Kernel> table;
    return table;
}

void enroll(const Kernel& kernel) { kernels()[kernel.name] = kernel; }

static std::string nearest(const std::string& name) {
    std::string list;
    for (const auto& [known, kernel] : kernels()) list += (list.empty() ? "" : ", ") + known;
    return "no kernel is called " + name + "; there are " + (list.empty() ? "none" : list);
}

static std::string describe(char kind, uint32_t bytes) {
    const char* name = kind == 'p'   ? "pointer"
                       : kind == 'i' ? "integer"
                       : kind == 'f' ? "floating-point number"
                                     : "structure";
    return std::string(kind == 'i' ? "an " : "a ") + name + " of " + std::to_string(bytes) + " bytes";
}

static std::string check_arguments(EyekernDevice& device, const Kernel& kernel, void** arguments, const char* kinds,
                                   const uint32_t* sizes, uint32_t count) {
    if (!kinds) return ""; // as the driver takes them: pointers, and nothing about what they point to
    if (count != kernel.count)
        return std::string(kernel.name) + " takes " + std::to_string(kernel.count) + " arguments, not " +
               std::to_string(count);
    for (uint32_t i = 0; i < count; i++) {
        const Parameter& p = kernel.parameters[i];
        std::string which = std::string(kernel.name) + ": argument " + std::to_string(i + 1);
        if (p.kind != kinds[i] || p.bytes != sizes[i])
            return which + " must be " + describe(p.kind, p.bytes) + ", not " + describe(kinds[i], sizes[i]);
        uint64_t address = 0;
        if (p.kind == 'p') memcpy(&address, arguments[i], sizeof address);
        std::string why;
        if (address && !device.find(address, 0, why)) return which + ": " + why;
    }
    return "";
}

static std::string check_geometry(uint3 grid, uint3 block, uint32_t shared_bytes) {
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    auto shape = [](uint3 v) {
        return std::to_string(v.x) + " x " + std::to_string(v.y) + " x " + std::to_string(v.z);
    };
    if (block.z > 64 || threads == 0 || threads > MAX_THREADS)
        return "a block of " + shape(block) + " threads: 1 to " + std::to_string(MAX_THREADS) + " are possible";
    if (!grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535)
        return "a grid of " + shape(grid) + " blocks: 1 to 2147483647 x 65535 x 65535 are possible";
    if (shared_bytes > MAX_SHARED)
        return std::to_string(shared_bytes) + " bytes of shared memory: at most " + std::to_string(MAX_SHARED) +
               " are possible";
    return "";
}

} // namespace emulator

using namespace emulator;

int eyekern_device_launch(EyekernDevice* device, const char* name, const uint32_t* grid, const uint32_t* block_size,
                          const uint32_t* blocks, uint32_t shared_bytes, void** arguments, const char* kinds,
                          const uint32_t* sizes, uint32_t count, uint64_t seed, uint32_t threads, char* error,
                          size_t size) {
    std::lock_guard<std::mutex> lock(device->mutex);
    auto entry = kernels().find(name);
    if (entry == kernels().end()) return report(error, size, nearest(name));
    const Kernel& kernel = entry->second;
    std::string why = check_arguments(*device, kernel, arguments, kinds, sizes, count);
    Launch launch;
    launch.grid = {grid[0], grid[1], grid[2]};
    launch.block = {block_size[0], block_size[1], block_size[2]};
    launch.first = blocks ? blocks[0] : 0;
    launch.columns = blocks ? blocks[1] : launch.grid.x;
    if (why.empty()) why = check_geometry(launch.grid, launch.block, shared_bytes);
    if (why.empty() && (uint64_t)launch.first + launch.columns > launch.grid.x) why = "blocks outside of the grid";
    if (!why.empty()) return report(error, size, why);

    const std::vector<Extent> memory = device->extents();
    launch.kernel = &kernel;
    launch.shared_bytes = shared_bytes;
    launch.arguments = arguments;
    launch.seed = seed;
    launch.memory = &memory;
    const uint64_t workers = std::max<uint64_t>(1, std::min<uint64_t>(threads, launch.blocks()));
    while (device->processors.size() < workers) device->processors.emplace_back(new Multiprocessor);
    std::vector<std::thread> others;
    for (uint64_t i = 1; i < workers; i++) others.emplace_back([&, i] { device->processors[i]->run(launch); });
    device->processors[0]->run(launch);
    for (std::thread& other : others) other.join();
    sanitizer::acquire(&launch.next);

    std::string damage = device->find_damage();
    if (!launch.error.empty()) why = std::string(kernel.name) + ": " + launch.error;
    else if (!damage.empty()) why = std::string(kernel.name) + ": " + damage;
    return report(error, size, why);
}

const char* eyekern_kernel_name(uint32_t index) {
    for (const auto& [name, kernel] : kernels())
        if (index-- == 0) return kernel.name;
    return nullptr;
}

uint32_t eyekern_kernel_parameter(const char* kernel, uint32_t index) {
    const auto entry = kernels().find(kernel);
    return entry == kernels().end() || index >= entry->second.count ? 0 : entry->second.parameters[index].bytes;
}
