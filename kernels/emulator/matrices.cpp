// ldmatrix and mma.sync: the layout of fragments is that of the PTX ISA, sections "Warp-level Matrix Load Instruction:
// ldmatrix" and "Matrix Fragments for mma.m16n8k16 with floating point type".
#include "machine.h"

namespace emulator {

static float low(uint32_t pair) { return bits_to_float(pair << 16); }
static float high(uint32_t pair) { return bits_to_float(pair & 0xffff0000u); }

void move_matrices(void** operands) {
    MatrixRows** lane = reinterpret_cast<MatrixRows**>(operands);
    for (int matrix = 0; matrix < 4; matrix++)
        for (int i = 0; i < 32; i++) {
            const uint16_t* row = lane[matrix * 8 + i / 4]->row + i % 4 * 2;
            lane[i]->r[matrix] = row[0] | (uint32_t)row[1] << 16;
        }
}

void move_matrices_transposed(void** operands) {
    MatrixRows** lane = reinterpret_cast<MatrixRows**>(operands);
    for (int matrix = 0; matrix < 4; matrix++)
        for (int i = 0; i < 32; i++) {
            const uint16_t* upper = lane[matrix * 8 + i % 4 * 2]->row;
            const uint16_t* lower = lane[matrix * 8 + i % 4 * 2 + 1]->row;
            lane[i]->r[matrix] = upper[i / 4] | (uint32_t)lower[i / 4] << 16;
        }
}

// Sums in order of k, in f32. The hardware sums several products at once and truncates: results differ in the last
// bits.
WIDE void multiply_16816(void** operands) {
    Multiply16816** lane = reinterpret_cast<Multiply16816**>(operands);
    alignas(32) float a[16][16], b[16][8], d[16][8];
    for (int i = 0; i < 32; i++) {
        const Multiply16816& x = *lane[i];
        const int g = i / 4, t = i % 4 * 2;
        a[g][t] = low(x.a[0]), a[g][t + 1] = high(x.a[0]);
        a[g + 8][t] = low(x.a[1]), a[g + 8][t + 1] = high(x.a[1]);
        a[g][t + 8] = low(x.a[2]), a[g][t + 9] = high(x.a[2]);
        a[g + 8][t + 8] = low(x.a[3]), a[g + 8][t + 9] = high(x.a[3]);
        b[t][g] = low(x.b0), b[t + 1][g] = high(x.b0);
        b[t + 8][g] = low(x.b1), b[t + 9][g] = high(x.b1);
        d[g][t] = x.d[0], d[g][t + 1] = x.d[1];
        d[g + 8][t] = x.d[2], d[g + 8][t + 1] = x.d[3];
    }
    for (int row = 0; row < 16; row++) {
        Floats sum = *reinterpret_cast<Floats*>(d[row]);
        for (int k = 0; k < 16; k++) sum += a[row][k] * *reinterpret_cast<Floats*>(b[k]);
        *reinterpret_cast<Floats*>(d[row]) = sum;
    }
    for (int i = 0; i < 32; i++) {
        float* out = lane[i]->d;
        const int g = i / 4, t = i % 4 * 2;
        out[0] = d[g][t], out[1] = d[g][t + 1];
        out[2] = d[g + 8][t], out[3] = d[g + 8][t + 1];
    }
}

} // namespace emulator
