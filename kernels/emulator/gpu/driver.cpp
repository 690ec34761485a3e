// A libcuda.so.1 for tests: a Hopper GPU whose kernels the emulator runs. Beside products.cpp it lets the command
// train with --device cuda on a machine without a GPU, through the very calls that it makes on one. It is built once as
// the driver of each of several CUDA versions (MADE_UP_CUDA), without the functions that came later.
//
// What can be wrong with it comes from the environment. Where there are several GPUs, a value is a list with one number
// for each; the last number serves the rest.
//   MADE_UP_VERSION  the CUDA version that it tells, in place of its own
//   MADE_UP_INIT     what starting it answers
//   MADE_UP_WAIT     starting it takes until this file exists
//   MADE_UP_GPUS     compute capabilities: 90,75 is a Hopper and a Turing; 90 where it is not set; none for no GPU
//   MADE_UP_ASK      what asking for a GPU answers
//   MADE_UP_OPEN     what opening a GPU answers
//   MADE_UP_LOCK     what getting page-locked memory answers
//   MADE_UP_EXACT    a GPU takes machine code of its own architecture only
//   MADE_UP_POOLS    0: there is no pool of memory
//   MADE_UP_MEMORY   bytes of memory; 4 GiB where it is not set
//   MADE_UP_LOST     so many launches succeed, then the GPU is gone
//   MADE_UP_HOPPER   what Hopper's kernels do: "hang", "fault" or "wrong"
//   MADE_UP_LOG      a file that receives a line for each allocation ("alloc BYTES"), wait ("wait") and launch ("launch
//                    KERNEL")
#include "emulator/device.h"
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

typedef int Status;
typedef uint64_t Address;
enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    BUSY = 46,
    NO_BINARY = 209,
    ECC = 214,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719
};

static uint64_t number(const char* name, uint64_t otherwise) {
    const char* text = getenv(name);
    return text ? strtoull(text, nullptr, 10) : otherwise;
}
// The number of a GPU in a list of numbers.
static int listed(const char* name, int gpu, int otherwise) {
    const char* text = getenv(name);
    if (!text) return otherwise;
    while (const char* comma = gpu-- > 0 ? strchr(text, ',') : nullptr) text = comma + 1;
    return atoi(text);
}
static int count() {
    const char* text = getenv("MADE_UP_GPUS");
    if (!text) return 1;
    int n = *text != 0;
    for (; *text; text++) n += *text == ',';
    return n;
}
static int capability(int gpu) { return listed("MADE_UP_GPUS", gpu, 90); }

static int contexts[16], current; // of each GPU its context, and the GPU whose context is bound
static const uint64_t MEMORY = number("MADE_UP_MEMORY", (uint64_t)4 << 30);
static EyekernDevice* const device = eyekern_device_open(MEMORY);
static uint64_t launches_left = number("MADE_UP_LOST", ~0ull);
static Status state = OK; // what every later call answers, once something has gone wrong for good
static char error[2048];
static const std::string hopper = getenv("MADE_UP_HOPPER") ? getenv("MADE_UP_HOPPER") : "";
static bool hangs = false; // a kernel was started that never ends

static void log(const char* format, const char* word, uint64_t n = 0) {
    static FILE* const file = getenv("MADE_UP_LOG") ? fopen(getenv("MADE_UP_LOG"), "w") : nullptr;
    if (!file) return;
    fprintf(file, format, word, (unsigned long long)n);
    fflush(file);
}
static Status told(int failed, Status status) {
    if (failed) fprintf(stderr, "made-up GPU: %s\n", error);
    return failed ? status : state;
}

// Work that was started is waited for here, so what went wrong in it is seen here.
static Status waited() {
    while (hangs) pause();
    return state;
}

extern "C" {

Status cuInit(unsigned) {
    if (const char* file = getenv("MADE_UP_WAIT"))
        while (access(file, F_OK)) usleep(10000);
    return (Status)number("MADE_UP_INIT", OK);
}
Status cuDriverGetVersion(int* version) { return *version = (int)number("MADE_UP_VERSION", MADE_UP_CUDA), OK; }
// NVRTC asks a driver that it finds for this, and takes no for an answer
Status cuGetExportTable(const void** table, const void*) { return *table = nullptr, INVALID_VALUE; }
Status cuGetErrorString(Status status, const char** text) {
    *text = status == OUT_OF_MEMORY   ? "out of memory"
            : status == ECC           ? "uncorrectable ECC error encountered"
            : status == ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
            : status == LAUNCH_FAILED ? "unspecified launch failure"
            : status == BUSY          ? "CUDA-capable device(s) is/are busy or unavailable"
                                      : "some other failure";
    return OK;
}
Status cuDeviceGetCount(int* n) { return *n = count(), OK; }
Status cuDeviceGet(int* handle, int ordinal) { return *handle = ordinal, listed("MADE_UP_ASK", ordinal, OK); }
Status cuDeviceGetName(char* name, int size, int gpu) {
    if (gpu == 0) snprintf(name, size, "Made-up H200");
    else snprintf(name, size, "Made-up %d", gpu);
    return OK;
}
Status cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = MEMORY, OK; }
Status cuDeviceGetAttribute(int* value, int attribute, int gpu) {
    *value = attribute == 75    ? capability(gpu) / 10
             : attribute == 76  ? capability(gpu) % 10
             : attribute == 16  ? 132        // multiprocessors
             : attribute == 97  ? 227 * 1024 // shared memory of a block, if asked for
             : attribute == 115 ? (int)number("MADE_UP_POOLS", 1)
                                : 0;
    return OK;
}
Status cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = device, OK; }
Status cuMemPoolSetAttribute(void* pool, int attribute, void* value) {
    return pool == device && attribute == 4 && *(uint64_t*)value == ~0ull ? OK : INVALID_VALUE;
}
Status cuDevicePrimaryCtxRetain(void** context, int gpu) {
    return *context = &contexts[gpu], listed("MADE_UP_OPEN", gpu, OK);
}
Status cuDevicePrimaryCtxRelease_v2(int) { return OK; }
Status cuCtxSetCurrent(int* context) { return current = (int)(context - contexts), OK; }
Status cuStreamCreate(void** stream, unsigned) { return *stream = device, OK; }
Status cuStreamDestroy_v2(void*) { return OK; }
Status cuStreamSynchronize(void*) { return log("%s\n", "wait"), waited(); }

Status cuEventCreate(double** event, unsigned) { return *event = new double(0), OK; }
Status cuEventDestroy_v2(double* event) { return delete event, OK; }
Status cuEventRecord(double* event, void*) {
    *event = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
    return state;
}
Status cuEventElapsedTime(float* ms, double* start, double* end) { return *ms = (float)(*end - *start), OK; }
#if MADE_UP_CUDA >= 12080
Status cuEventElapsedTime_v2(float* ms, double* start, double* end) { return cuEventElapsedTime(ms, start, end); }
#endif

Status cuMemGetInfo_v2(size_t* unused, size_t* all) {
    *unused = eyekern_device_free_bytes(device), *all = MEMORY;
    return OK;
}
Status cuMemAllocAsync(Address* address, size_t bytes, void*) {
    log("%s %llu\n", "alloc", bytes);
    return eyekern_device_alloc(device, bytes, address, error, sizeof error) ? OUT_OF_MEMORY : state;
}
Status cuMemAlloc_v2(Address* address, size_t bytes) { return cuMemAllocAsync(address, bytes, nullptr); }
Status cuMemFreeAsync(Address address, void*) {
    return told(eyekern_device_free(device, address, error, sizeof error), INVALID_VALUE);
}
Status cuMemFree_v2(Address address) { return cuMemFreeAsync(address, nullptr); }
Status cuMemHostAlloc(void** memory, size_t bytes, unsigned) {
    if (const Status status = listed("MADE_UP_LOCK", current, OK)) return status;
    return (*memory = malloc(bytes)) ? OK : OUT_OF_MEMORY;
}
Status cuMemFreeHost(void* memory) { return free(memory), OK; }
Status cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void*) {
    return told(eyekern_device_fill(device, to, value, bytes, error, sizeof error), INVALID_VALUE);
}
Status cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    return told(eyekern_device_write(device, to, from, bytes, error, sizeof error), INVALID_VALUE);
}
Status cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    if (waited() != OK) return state;
    return told(eyekern_device_read(device, to, from, bytes, error, sizeof error), INVALID_VALUE);
}

// Matrices of bf16 with 128-byte swizzle, as the command describes them.
Status cuTensorMapEncodeTiled(void* map, int type, uint32_t rank, Address base, const uint64_t* sizes,
                              const uint64_t* strides, const uint32_t* boxes, const uint32_t* steps, int interleave,
                              int swizzle, int, int fill) {
    if (type != 9 || rank != 2 || steps[0] != 1 || steps[1] != 1 || interleave || swizzle != 3 || fill)
        return INVALID_VALUE;
    return told(eyekern_device_tensor_map(device, map, base, sizes[0], sizes[1], strides[0], boxes[0], boxes[1], 2, 128,
                                          error, sizeof error),
                INVALID_VALUE);
}

// The machine code itself is not run: the emulator has the kernels of the same names, out of the same sources.
Status cuModuleLoadData(void** module, const unsigned char* image) {
    if (memcmp(image, "\177ELF", 4)) return NO_BINARY;
    // CUDA 13's format, which CUDA 12 has for Blackwell only, has the architecture in another byte, and needs a driver
    // that knows it
    const bool later = image[8] >= 8;
    if (later && MADE_UP_CUDA < 12080) return NO_BINARY;
    const int made = later ? image[49] : image[48], here = capability(current);
    const bool older = !getenv("MADE_UP_EXACT") && here != 87 && made / 10 == here / 10 && made < here;
    if (made != here && !older) return NO_BINARY;
    return *module = device, OK;
}
Status cuModuleUnload(void*) { return OK; }
Status cuModuleGetFunction(const char** function, void*, const char* name) {
    for (uint32_t i = 0; const char* known = eyekern_kernel_name(i); i++)
        if (!strcmp(known, name)) return *function = known, OK;
    return NOT_FOUND;
}
#if MADE_UP_CUDA >= 12040
Status cuFuncGetParamInfo(const char* function, size_t index, size_t*, size_t* bytes) {
    return (*bytes = eyekern_kernel_parameter(function, (uint32_t)index)) ? OK : INVALID_VALUE;
}
#endif
Status cuFuncSetAttribute(void*, int attribute, int value) {
    return attribute == 8 && value > 0 && value <= 227 * 1024 ? OK : INVALID_VALUE; // the most dynamic shared memory
}
Status cuLaunchKernel(const char* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned shared, void*, void** parameters, void**) {
    log("launch %s\n", function);
    if (launches_left-- == 0) state = ECC;
    if (state != OK) return state;
    if (strstr(function, "_sm90_") && !hopper.empty()) {
        hangs = hopper == "hang";
        if (hopper == "fault") state = ILLEGAL_ADDRESS;
        return OK; // "wrong": nothing is computed
    }
    const uint32_t grid[] = {gx, gy, gz}, block[] = {bx, by, bz};
    const int failed = eyekern_device_launch(device, function, grid, block, nullptr, shared, parameters, nullptr,
                                             nullptr, 0, 0, 2, error, sizeof error);
    // as on a GPU, a kernel that went wrong is seen where its work is waited for
    if (failed) state = LAUNCH_FAILED;
    return told(failed, OK);
}
}
