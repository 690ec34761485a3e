// Enumerators that the kernels share with Rust: src/backend/enums.rs reads them from this file at compile time. Values
// follow from the order; explicit values are not supported.
#pragma once

// Indices into the buffer of step scalars; src/backend/shapes.rs documents them.
enum Scalar { LR, BIAS1, BIAS2, INV_NORM, INV_PAIRS, MAX_NORM, SQ_NORM, CLIP, SCALARS };

// Indices into the objective's buffer of sums; src/backend/shapes.rs documents them.
enum Tally { WEIGHTED, ON_PATH, OFF_PATH, ON_COUNT, OFF_COUNT, PREFERENCE, PAIRS, TALLY };

// `Modulation` of src/backend/shapes.rs.
enum Modulation { UNMODULATED, FOCAL, PROBABILITY };

// `Act` of src/backend/shapes.rs.
enum Act { SWIGLU, GELU_TANH, GELU_ERF };
