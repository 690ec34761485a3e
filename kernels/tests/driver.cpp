// Runs one test kernel without Rust in the process, as sanitizers like it: `driver KERNEL [SEED] [THREADS] [REPEAT]`.
// Prints what happened; the exit status is 0 if the result is right, 1 if it is wrong, 2 if the launch failed.
#include "emulator/device.h"
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

using std::vector;

static EyekernDevice* device = eyekern_device_open(1 << 28);
static char error[1024];
static uint64_t seed = 0;
static uint32_t threads = 1, repeat = 1;
static const char* kernel;

static float widen(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}

// Uniform in [-1, 1), as bf16 where asked.
static float draw() {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (float)(state >> 40) / (1 << 23) - 1.0f;
}
static vector<float> floats(size_t n) {
    vector<float> v(n);
    for (float& x : v) x = draw();
    return v;
}
static vector<uint16_t> halves(size_t n) {
    vector<uint16_t> v(n);
    for (uint16_t& x : v) {
        float f = draw();
        uint32_t bits;
        memcpy(&bits, &f, 4);
        x = (uint16_t)(bits >> 16);
    }
    return v;
}

static void stop(int status) {
    if (status) printf("%s\n", error);
    if (status) exit(2);
}
template <class T> static uint64_t upload(const vector<T>& v) {
    uint64_t address;
    stop(eyekern_device_alloc(device, v.size() * sizeof(T), &address, error, sizeof error));
    stop(eyekern_device_write(device, address, v.data(), v.size() * sizeof(T), error, sizeof error));
    return address;
}
template <class T> static vector<T> download(uint64_t address, size_t n) {
    vector<T> v(n);
    stop(eyekern_device_read(device, v.data(), address, n * sizeof(T), error, sizeof error));
    return v;
}

struct Arguments {
    vector<void*> pointers;
    std::string kinds;
    vector<uint32_t> sizes;
    template <class T> Arguments& add(char kind, T& value) {
        pointers.push_back(&value), kinds += kind, sizes.push_back(sizeof(T));
        return *this;
    }
    void launch(vector<uint32_t> grid, uint32_t block, uint32_t shared_bytes) {
        const uint32_t shape[3] = {block, 1, 1};
        const clock_t start = clock(); // of the process: other work on the machine does not count
        for (uint32_t i = 0; i < repeat; i++)
            stop(eyekern_device_launch(device, kernel, grid.data(), shape, nullptr, shared_bytes, pointers.data(),
                                       kinds.data(), sizes.data(), (uint32_t)sizes.size(), seed, threads, error,
                                       sizeof error));
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        if (repeat > 1) printf("%.2f ms of CPU time per launch\n", seconds * 1e3 / repeat);
    }
};

static double worst = 0; // a NaN stays
static void compare(double value, double expected) {
    const double difference = fabs(value - expected);
    if (worst == worst && !(difference <= worst)) worst = difference;
}

static double rmsnorm() {
    int rows = 5, n = 1000;
    float eps = 1e-6f;
    const vector<float> x = floats((size_t)(rows * n));
    uint64_t dx = upload(x), dy = upload(vector<float>(x.size()));
    Arguments().add('p', dx).add('p', dy).add('i', n).add('f', eps).launch({(uint32_t)rows, 1, 1}, 256, 32);
    const vector<float> y = download<float>(dy, x.size());
    for (int r = 0; r < rows; r++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (double)x[r * n + i] * x[r * n + i];
        for (int i = 0; i < n; i++) compare(y[r * n + i], x[r * n + i] / sqrt(sum / n + eps));
    }
    return 1e-5;
}

static double attention() {
    const int heads = 2, length = 150, dim = 64;
    const size_t n = (size_t)heads * length * dim;
    const vector<uint16_t> q = halves(n), k = halves(n), v = halves(n);
    uint64_t dq = upload(q), dk = upload(k), dv = upload(v), dout = upload(q),
             dl = upload(vector<float>(heads * length));
    int total = length;
    float scale = 0.125f * 1.44269504f;
    Arguments()
        .add('p', dq)
        .add('p', dk)
        .add('p', dv)
        .add('p', dout)
        .add('p', dl)
        .add('i', total)
        .add('f', scale)
        .launch({(length + 63) / 64, heads, 1}, 128, 40960);
    const vector<uint16_t> o = download<uint16_t>(dout, n);
    const vector<float> lse = download<float>(dl, heads * length);
    for (int h = 0; h < heads; h++)
        for (int i = 0; i < length; i++) {
            auto at = [&](const vector<uint16_t>& t, int row, int c) {
                return (double)widen(t[((size_t)h * length + row) * dim + c]);
            };
            vector<double> p(i + 1);
            double top = -1e300, sum = 0;
            for (int j = 0; j <= i; j++) {
                for (int c = 0; c < dim; c++) p[j] += at(q, i, c) * at(k, j, c) * 0.125;
                top = fmax(top, p[j]);
            }
            for (double& e : p) sum += e = exp(e - top);
            for (int c = 0; c < dim; c++) {
                double out = 0;
                for (int j = 0; j <= i; j++) out += p[j] / sum * at(v, j, c);
                compare(at(o, i, c), out);
            }
            compare(lse[h * length + i], top + log(sum));
        }
    return 1e-2;
}

static double gemm() {
    const int m = 128, n = 256, k = 384;
    const vector<uint16_t> a = halves(m * k), b = halves(n * k);
    uint64_t da = upload(a), db = upload(b), dc = upload(vector<float>(m * n));
    struct alignas(128) Map {
        uint64_t opaque[16];
    } am, bm;
    stop(eyekern_device_tensor_map(device, &am, da, k, m, k * 2, 64, 64, 2, 128, error, sizeof error));
    stop(eyekern_device_tensor_map(device, &bm, db, k, n, k * 2, 64, 128, 2, 128, error, sizeof error));
    int kk = k, row = n;
    Arguments().add('s', am).add('s', bm).add('p', dc).add('i', kk).add('i', row).launch({m / 64, n / 128, 1}, 256,
                                                                                         98368);
    const vector<float> c = download<float>(dc, m * n);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int l = 0; l < k; l++) sum += (double)widen(a[i * k + l]) * widen(b[j * k + l]);
            compare(c[i * n + j], sum);
        }
    return 1e-3;
}

int main(int count, char** words) {
    if (count < 2) {
        for (uint32_t i = 0; const char* name = eyekern_kernel_name(i); i++) printf("%s\n", name);
        return 0;
    }
    kernel = words[1];
    if (count > 2) seed = strtoull(words[2], nullptr, 10);
    if (count > 3) threads = (uint32_t)atoi(words[3]);
    if (count > 4) repeat = (uint32_t)atoi(words[4]);
    const std::string name = kernel;
    auto is = [&](const char* prefix) { return name.rfind(prefix, 0) == 0; };
    const double limit = is("test_rmsnorm")     ? rmsnorm()
                         : is("test_attention") ? attention()
                         : is("test_gemm_sm90") ? gemm()
                                                : -1;
    eyekern_device_close(device);
    const bool right = worst <= limit;
    printf("%s, seed %llu: largest error %.3g, %s\n", kernel, (unsigned long long)seed, worst,
           right ? "right" : "WRONG");
    return right ? 0 : 1;
}
