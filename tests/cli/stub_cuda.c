// A libcuda.so.1 for tests: a machine with one GPU, made of host memory, on which the two kernels of kernels/cast.cu
// run. What is wrong with it comes from the environment:
//   STUB=old          the driver is of CUDA 12.1, and has few of the functions that are called
//   STUB=none         there is no GPU, and the driver does not start without one
//   STUB=empty        the driver starts, and counts no GPU
//   STUB=memory       every allocation is refused
//   STUB=lost         launches succeed, and then the GPU has gone
//   STUB=wrong        one result of one kernel is off by a bit
//   STUB_CAPABILITY   its compute capability: 75, 90 (if not set), 120
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Status;
typedef uint64_t Address;
enum { OK = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NO_BINARY = 209, ECC = 214 };

static int is(const char* what) {
    const char* stub = getenv("STUB");
    return stub && !strcmp(stub, what);
}
static int capability(void) {
    const char* text = getenv("STUB_CAPABILITY");
    return text ? atoi(text) : 90;
}

Status cuInit(unsigned flags) { (void)flags; return is("none") ? NO_DEVICE : OK; }
Status cuDriverGetVersion(int* version) { *version = is("old") ? 12010 : 13000; return OK; }
// NVRTC asks a driver that it finds for this, and takes no for an answer
Status cuGetExportTable(const void** table, const void* id) { (void)id; *table = 0; return 1; }
Status cuGetErrorString(Status status, const char** text) {
    *text = status == NO_DEVICE ? "no CUDA-capable device is detected"
          : status == ECC       ? "uncorrectable ECC error encountered"
                                : "some other failure";
    return OK;
}
Status cuDeviceGetCount(int* count) { *count = !is("empty"); return OK; }
Status cuDeviceGet(int* device, int ordinal) { *device = ordinal; return OK; }
Status cuDeviceGetName(char* name, int size, int device) { (void)device; snprintf(name, size, "Stub"); return OK; }
Status cuDeviceTotalMem_v2(size_t* bytes, int device) { (void)device; *bytes = (size_t)8 << 30; return OK; }
Status cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? capability() / 10
           : attribute == 76 ? capability() % 10
           : attribute == 16 ? 132          // multiprocessors
           : attribute == 97 ? 227 * 1024   // shared memory of a block, if asked for
           : attribute == 115;              // memory pools
    return OK;
}
Status cuDevicePrimaryCtxRetain(void** context, int device) { (void)device; *context = &cuInit; return OK; }
Status cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return OK; }
Status cuCtxSetCurrent(void* context) { (void)context; return OK; }
Status cuStreamCreate(void** stream, unsigned flags) { (void)flags; *stream = &cuStreamCreate; return OK; }
Status cuStreamDestroy_v2(void* stream) { (void)stream; return OK; }
Status cuStreamSynchronize(void* stream) { (void)stream; return is("lost") ? ECC : OK; }
Status cuMemHostAlloc(void** memory, size_t bytes, unsigned flags) { (void)flags; *memory = malloc(bytes); return OK; }
Status cuMemFreeHost(void* memory) { free(memory); return OK; }
Status cuDeviceGetDefaultMemPool(void** pool, int device) { (void)device; *pool = &cuInit; return OK; }
Status cuMemPoolSetAttribute(void* pool, int attribute, void* value) { (void)pool, (void)attribute, (void)value; return OK; }
Status cuEventCreate(void** event, unsigned flags) { (void)flags; *event = &cuEventCreate; return OK; }
Status cuEventDestroy_v2(void* event) { (void)event; return OK; }
Status cuEventElapsedTime(float* ms, void* start, void* end) { (void)start, (void)end; *ms = 1; return OK; }
Status cuEventRecord(void* event, void* stream) { (void)event, (void)stream; return OK; }
Status cuMemGetInfo_v2(size_t* unused, size_t* all) { *unused = (size_t)3 << 30; *all = (size_t)8 << 30; return OK; }
Status cuMemAllocAsync(Address* address, size_t bytes, void* stream) {
    (void)stream;
    if (is("memory")) return OUT_OF_MEMORY;
    *address = (Address)malloc(bytes);
    return OK;
}
Status cuMemAlloc_v2(Address* address, size_t bytes) { return cuMemAllocAsync(address, bytes, 0); }
Status cuMemFreeAsync(Address address, void* stream) { (void)stream; free((void*)address); return OK; }
Status cuMemFree_v2(Address address) { return cuMemFreeAsync(address, 0); }
Status cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void* stream) {
    (void)stream;
    memset((void*)to, value, bytes);
    return OK;
}
Status cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void* stream) {
    (void)stream;
    memcpy((void*)to, from, bytes);
    return OK;
}
Status cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void* stream) {
    (void)stream;
    memcpy(to, (void*)from, bytes);
    return OK;
}

// an ELF file whose flags name the architecture that this GPU runs
Status cuModuleLoadData(void** module, const unsigned char* image) {
    // CUDA 13's format, which CUDA 12 has for Blackwell only, has the architecture in another byte
    if (memcmp(image, "\177ELF", 4) || image[image[8] < 8 ? 48 : 49] != capability()) return NO_BINARY;
    *module = (void*)image;
    return OK;
}
Status cuTensorMapEncodeTiled(void) { return OK; }
Status cuModuleUnload(void* module) { (void)module; return OK; }
Status cuModuleGetFunction(char** function, void* module, const char* name) {
    (void)module;
    *function = strdup(name);
    return OK;
}
Status cuFuncSetAttribute(void* function, int attribute, int value) {
    (void)function;
    // the most dynamic shared memory
    return attribute == 8 && value > 0 && value <= 227 * 1024 ? OK : 1;
}
Status cuLaunchKernel(char* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                      unsigned shared, void* stream, void** parameters, void** extra) {
    (void)shared, (void)stream, (void)extra;
    const void* x = *(void**)parameters[0];
    void* y = *(void**)parameters[1];
    uint64_t n = *(uint64_t*)parameters[2], threads = (uint64_t)gx * gy * gz * bx * by * bz;
    for (uint64_t i = 0; i < n && i < threads; i++) {
        if (!strcmp(function, "widen_bf16")) {
            ((uint32_t*)y)[i] = (uint32_t)((const uint16_t*)x)[i] << 16;
        } else {
            uint32_t bits = ((const uint32_t*)x)[i];
            int nan = (bits & 0x7fffffff) > 0x7f800000;
            uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
            ((uint16_t*)y)[i] = (nan ? bits | 0x400000 : rounded) >> 16;
            if (is("wrong") && i == n / 2) ((uint16_t*)y)[i] ^= 1;
        }
    }
    return OK;
}
