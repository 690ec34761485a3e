// The functions of cublasLt that eyekern calls, for tests: as strict about descriptions as their documentation, and as
// slow as three loops. Three algorithms are offered, the third only with 1 MiB of working memory; they differ in how
// they split a sum, and so in bits.
//
//   MADE_UP_PRODUCTS   a file that receives a line for each product: the number of its algorithm
//   MADE_UP_LT         what opening a handle answers
//   MADE_UP_LT_WRONG   bias: it is left out; odd: the last column of an odd number of them is 0
//   MADE_UP_LT_NONE    no algorithm is offered
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

typedef int Status;
enum { OK = 0, INVALID = 7, NOT_SUPPORTED = 15 };
enum { F32 = 0, BF16 = 14, COMPUTE_32F = 68 };
enum { TRANSA = 3, TRANSB = 4, EPILOGUE = 7, BIAS_POINTER = 8 };
enum { MAX_WORKSPACE = 1, REDUCTION_MASK = 3, ALIGN_A = 5, ALIGN_D = 8 };
constexpr size_t WORKSPACE = 1 << 20;

struct Operation {
    int transposed[2] = {0, 0};
    uint32_t epilogue = 1;
    const uint16_t* bias = nullptr;
};
struct Layout { // column-major
    int type;
    uint64_t rows, columns;
    int64_t ld;
};
struct Preference {
    uint64_t workspace = 0;
    uint32_t reductions = ~0u, alignment[4] = {256, 256, 256, 256};
};
struct Algorithm {
    uint64_t data[8];
};
struct Result {
    Algorithm algorithm;
    size_t workspace;
    Status state;
    float waves;
    int reserved[4];
};

static float widen(uint16_t bits) {
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}
static uint16_t narrow(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

// The shape of a product, if the descriptions fit together.
struct Shape {
    uint64_t m, n, k;
    bool fits;
};
static Shape shape(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
    const uint64_t m = o.transposed[0] ? a.columns : a.rows, k = o.transposed[0] ? a.rows : a.columns;
    const uint64_t k2 = o.transposed[1] ? b.columns : b.rows, n = o.transposed[1] ? b.rows : b.columns;
    bool fits = m && n && k && k == k2 && c.rows == m && c.columns == n && d.rows == m && d.columns == n;
    fits &= a.type == BF16 && b.type == BF16 && c.type == d.type && (c.type == F32 || c.type == BF16);
    for (const Layout* l : {&a, &b, &c, &d}) fits &= l->ld >= (int64_t)l->rows;
    return {m, n, k, fits && (o.epilogue == 1 || (o.epilogue == 4 && o.bias && c.type == BF16))};
}

extern "C" {

size_t cublasLtGetVersion() { return MADE_UP_CUDA >= 13000 ? 130100 : 120905; }
Status cublasLtCreate(void** handle) {
    if (const char* status = getenv("MADE_UP_LT")) return atoi(status);
    return *handle = new int(1), OK;
}
Status cublasLtDestroy(int* handle) { return delete handle, OK; }

Status cublasLtMatmulDescCreate(Operation** o, int compute, int scale) {
    if (compute != COMPUTE_32F || scale != F32) return NOT_SUPPORTED;
    return *o = new Operation, OK;
}
Status cublasLtMatmulDescDestroy(Operation* o) { return delete o, OK; }
Status cublasLtMatmulDescSetAttribute(Operation* o, int attribute, const void* value, size_t bytes) {
    int word = 0;
    if (bytes == 4) memcpy(&word, value, 4);
    switch (attribute) {
    case TRANSA:
    case TRANSB:
        if (bytes != 4 || word < 0 || word > 1) return INVALID;
        o->transposed[attribute - TRANSA] = word;
        return OK;
    case EPILOGUE:
        if (bytes != 4) return INVALID;
        o->epilogue = (uint32_t)word;
        return OK;
    case BIAS_POINTER:
        if (bytes != 8) return INVALID;
        memcpy(&o->bias, value, 8);
        return OK;
    }
    return INVALID;
}
Status cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
    return *layout = new Layout{type, rows, columns, ld}, OK;
}
Status cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, OK; }

Status cublasLtMatmulPreferenceCreate(Preference** p) { return *p = new Preference, OK; }
Status cublasLtMatmulPreferenceDestroy(Preference* p) { return delete p, OK; }
Status cublasLtMatmulPreferenceSetAttribute(Preference* p, int attribute, const void* value, size_t bytes) {
    if (attribute == MAX_WORKSPACE && bytes == 8) return memcpy(&p->workspace, value, 8), OK;
    if (attribute == REDUCTION_MASK && bytes == 4) return memcpy(&p->reductions, value, 4), OK;
    if (attribute >= ALIGN_A && attribute <= ALIGN_D && bytes == 4)
        return memcpy(&p->alignment[attribute - ALIGN_A], value, 4), OK;
    return INVALID;
}

Status cublasLtMatmulAlgoCheck(void*, Operation* o, Layout* a, Layout* b, Layout* c, Layout* d, const Algorithm* which,
                               Result* result) {
    const uint64_t id = which->data[0];
    if (!shape(*o, *a, *b, *c, *d).fits) return INVALID;
    if (id < 1 || id > 3) return NOT_SUPPORTED;
    *result = {*which, id == 3 ? WORKSPACE : 0, OK, 1.0f, {}};
    return OK;
}
Status cublasLtMatmulAlgoGetHeuristic(void* handle, Operation* o, Layout* a, Layout* b, Layout* c, Layout* d,
                                      Preference* p, int most, Result* results, int* count) {
    *count = 0;
    if (getenv("MADE_UP_LT_NONE")) return NOT_SUPPORTED;
    if (p->reductions & 1) return INVALID; // sums in place: their order is not fixed
    for (uint64_t id = 1; id <= 3 && *count < most; id++) {
        const Algorithm algorithm = {{id}};
        const Status status = cublasLtMatmulAlgoCheck(handle, o, a, b, c, d, &algorithm, &results[*count]);
        if (status != OK) return status;
        if (results[*count].workspace <= p->workspace) ++*count;
    }
    return *count ? OK : NOT_SUPPORTED;
}
Status cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* which, int attribute, void* value, size_t bytes,
                                            size_t* written) {
    if (bytes != 4) return INVALID;
    const uint32_t answer = attribute == 0 ? (uint32_t)which->data[0] : attribute == 2 ? (uint32_t)which->data[0] : 0;
    memcpy(value, &answer, 4);
    return *written = 4, OK;
}

Status cublasLtMatmul(void* handle, Operation* o, const float* alpha, const uint16_t* A, Layout* a, const uint16_t* B,
                      Layout* b, const float* beta, const void* C, Layout* c, void* D, Layout* d,
                      const Algorithm* which, void* workspace, size_t workspace_bytes, void* stream) {
    static FILE* const file = getenv("MADE_UP_PRODUCTS") ? fopen(getenv("MADE_UP_PRODUCTS"), "w") : nullptr;
    Result result;
    const Status status = cublasLtMatmulAlgoCheck(handle, o, a, b, c, d, which, &result);
    if (status != OK) return status;
    if (result.workspace > workspace_bytes || (result.workspace && !workspace) || !stream || C != D) return INVALID;
    if (file) fprintf(file, "%d\n", (int)which->data[0]), fflush(file);
    const auto [m, n, k, fits] = shape(*o, *a, *b, *c, *d);
    const uint64_t splits = which->data[0];
    const char* wrong = getenv("MADE_UP_LT_WRONG") ? getenv("MADE_UP_LT_WRONG") : "";
    // both operands with k innermost
    std::vector<float> left(m * k), right(n * k);
    for (uint64_t i = 0; i < m; i++)
        for (uint64_t l = 0; l < k; l++)
            left[i * k + l] = widen(o->transposed[0] ? A[l + i * a->ld] : A[i + l * a->ld]);
    for (uint64_t j = 0; j < n; j++)
        for (uint64_t l = 0; l < k; l++)
            right[j * k + l] = widen(o->transposed[1] ? B[j + l * b->ld] : B[l + j * b->ld]);
    for (uint64_t j = 0; j < n; j++) {
        for (uint64_t i = 0; i < m; i++) {
            float sum = 0;
            for (uint64_t s = 0; s < splits; s++) {
                float part = 0;
                for (uint64_t l = s * k / splits; l < (s + 1) * k / splits; l++)
                    part += left[i * k + l] * right[j * k + l];
                sum += part;
            }
            const uint64_t at = i + j * d->ld;
            float y = *alpha * sum;
            // as documented, c is not read where beta is 0
            if (*beta != 0) y += *beta * (d->type == F32 ? ((const float*)C)[at] : widen(((const uint16_t*)C)[at]));
            if (o->epilogue == 4 && strcmp(wrong, "bias")) y += widen(o->bias[i]);
            if (!strcmp(wrong, "odd") && m % 2 && i == m - 1) y = 0;
            if (d->type == F32) ((float*)D)[at] = y;
            else ((uint16_t*)D)[at] = narrow(y);
        }
    }
    return OK;
}
}
