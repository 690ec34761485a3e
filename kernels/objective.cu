// Weighted cross-entropy plus the token-level preference term, as one coefficient per supervised row (the trait's
// `objective`; EyeMulator, arXiv 2508.16771, section 2.4).
//
//   coef_j = w_j m(p_j) INV_NORM +- gamma INV_PAIRS beta sigmoid(-z_e) share_j,  z_e = beta (mean_on r - mean_off r)
//
// m is 1, (1 - p)^exponent or p; no gradient flows through it.
//
// A few thousand rows: one block, sums in f64 in a fixed order. The time is that of a launch.
#include "enums.cuh"
#include "prim.cuh"

// Adds the sums of all threads in a fixed order.
DEVICE void add_up(const double* mine, int count, int at, float* sums, double* scratch) {
    for (int k = 0; k < count; k++) {
        __syncthreads();
        scratch[threadIdx.x] = mine[k];
        __syncthreads();
        for (int half = blockDim.x / 2; half > 0; half /= 2) {
            if ((int)threadIdx.x < half) scratch[threadIdx.x] += scratch[threadIdx.x + half];
            __syncthreads();
        }
        if (threadIdx.x == 0) sums[at + k] += (float)scratch[0];
    }
}

extern "C" __global__ void __launch_bounds__(256)
    objective(const uint32_t* row_start, const float* logp, const float* weight, const uint32_t* path,
              const float* ref_logp, const float* scalars, float* coef, float* sums, int first, int rows,
              int first_example, int examples, float gamma, float beta, int weighted, int modulation, float exponent) {
    DYNAMIC_SHARED(shared);
    double* scratch = (double*)shared;
    double mine[PREFERENCE] = {};
    for (int j = first + threadIdx.x; j < first + rows; j += blockDim.x) {
        double nll = -(double)logp[j];
        float w = weight[j];
        if (modulation == FOCAL) w = (float)(w * pow(-expm1(-nll), (double)exponent));
        if (modulation == PROBABILITY) w = (float)(w * exp(-nll));
        coef[j] = w * scalars[INV_NORM];
        mine[WEIGHTED] += w * nll;
        mine[path[j] ? ON_PATH : OFF_PATH] += nll;
        mine[path[j] ? ON_COUNT : OFF_COUNT] += 1.0;
    }
    add_up(mine, PREFERENCE, WEIGHTED, sums, scratch);
    if (gamma == 0.f) return;
    double pairs[2] = {};
    // one thread per example: its rows are adjacent, and both sides are summed in their order
    for (int e = first_example + threadIdx.x; e < first_example + examples; e += blockDim.x) {
        double mass[2] = {}, sum[2] = {};
        int count[2] = {};
        for (uint32_t j = row_start[e]; j < row_start[e + 1]; j++) {
            int side = path[j] != 0;
            double m = weighted ? weight[j] : 1.0;
            mass[side] += m;
            sum[side] += m * ((double)logp[j] - (double)ref_logp[j]);
            count[side]++;
        }
        bool both = count[0] > 0 && count[1] > 0 && (!weighted || (mass[0] > 0.0 && mass[1] > 0.0));
        if (!both) continue;
        double z = beta * (sum[1] / mass[1] - sum[0] / mass[0]);
        // log(1 + e^-z), from the side that does not overflow
        pairs[0] += log1p(exp(-fabs(z))) + fmax(-z, 0.0);
        pairs[1] += 1.0;
        double pull = (double)gamma * scalars[INV_PAIRS] * beta / (1.0 + exp(z));
        for (uint32_t j = row_start[e]; j < row_start[e + 1]; j++) {
            double m = weighted ? weight[j] : 1.0;
            // the block's barriers above order this after the row's own coefficient has been written
            coef[j] += (float)(pull * (path[j] ? m / mass[1] : -m / mass[0]));
        }
    }
    add_up(pairs, 2, PREFERENCE, sums, scratch);
}
EXPORT_KERNEL(objective)
