//! The functions and numbers of the driver and of cublasLt that are called here, as NVIDIA's headers declare them; they
//! are the same from CUDA 12.2 to 13.
//!
//! A table is filled from the handle of one library, so every call goes to the library that was found and checked,
//! whatever else of its name is on the loader's path. Results are numbers and no enumerations: a driver may know
//! more of them than its header did.
#![allow(unsafe_code)] // calls into the libraries

use libloading::Library;
use std::ffi::{c_char, c_int, c_uint, c_void};

/// A result; 0 is success.
pub type Status = c_int;
/// A handle, opaque.
pub type Handle = *mut c_void;
/// A device of the driver: its number.
pub type DeviceNumber = c_int;

/// Declares a table of functions; those behind `optional` are missing in some versions of the library.
macro_rules! table {
    (
        $(#[$doc:meta])* $table:ident { $($name:ident($($argument:ty),* $(,)?) -> $result:ty;)* }
        optional { $($maybe:ident($($given:ty),* $(,)?) -> $gives:ty;)* }
    ) => {
        $(#[$doc])*
        #[allow(non_snake_case)] // the library's names
        pub struct $table {
            $(pub $name: unsafe extern "C" fn($($argument),*) -> $result,)*
            $(pub $maybe: Option<unsafe extern "C" fn($($given),*) -> $gives>,)*
        }

        impl $table {
            /// Looks all functions up. Fails with the name of one that is missing.
            pub fn load(library: &'static Library) -> Result<$table, &'static str> {
                Ok($table {
                    // SAFETY: the types are those of the library's header, and it is never closed.
                    $($name: *unsafe { library.get(stringify!($name)) }.map_err(|_| stringify!($name))?,)*
                    // SAFETY: as above.
                    $($maybe: unsafe { library.get(stringify!($maybe)) }.ok().map(|function| *function),)*
                })
            }
        }
    };
}

table! {
    /// The driver's functions (cuda.h).
    Cuda {
        cuCtxSetCurrent(Handle) -> Status;
        cuDeviceGet(*mut DeviceNumber, c_int) -> Status;
        cuDeviceGetAttribute(*mut c_int, c_int, DeviceNumber) -> Status;
        cuDeviceGetCount(*mut c_int) -> Status;
        cuDeviceGetDefaultMemPool(*mut Handle, DeviceNumber) -> Status;
        cuDeviceGetName(*mut c_char, c_int, DeviceNumber) -> Status;
        cuDevicePrimaryCtxRelease_v2(DeviceNumber) -> Status;
        cuDevicePrimaryCtxRetain(*mut Handle, DeviceNumber) -> Status;
        cuDeviceTotalMem_v2(*mut usize, DeviceNumber) -> Status;
        cuEventCreate(*mut Handle, c_uint) -> Status;
        cuEventDestroy_v2(Handle) -> Status;
        // its successor, of CUDA 12.8, tells the same
        cuEventElapsedTime(*mut f32, Handle, Handle) -> Status;
        cuEventRecord(Handle, Handle) -> Status;
        cuFuncSetAttribute(Handle, c_int, c_int) -> Status;
        cuGetErrorString(Status, *mut *const c_char) -> Status;
        cuInit(c_uint) -> Status;
        cuLaunchKernel(
            Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void,
        ) -> Status;
        cuMemAllocAsync(*mut u64, usize, Handle) -> Status;
        cuMemAlloc_v2(*mut u64, usize) -> Status;
        cuMemFreeAsync(u64, Handle) -> Status;
        cuMemFreeHost(*mut c_void) -> Status;
        cuMemFree_v2(u64) -> Status;
        cuMemGetInfo_v2(*mut usize, *mut usize) -> Status;
        cuMemHostAlloc(*mut *mut c_void, usize, c_uint) -> Status;
        cuMemPoolSetAttribute(Handle, c_int, *mut c_void) -> Status;
        cuMemcpyDtoHAsync_v2(*mut c_void, u64, usize, Handle) -> Status;
        cuMemcpyHtoDAsync_v2(u64, *const c_void, usize, Handle) -> Status;
        cuMemsetD8Async(u64, u8, usize, Handle) -> Status;
        cuModuleGetFunction(*mut Handle, Handle, *const c_char) -> Status;
        cuModuleLoadData(*mut Handle, *const c_void) -> Status;
        cuModuleUnload(Handle) -> Status;
        cuStreamCreate(*mut Handle, c_uint) -> Status;
        cuStreamDestroy_v2(Handle) -> Status;
        cuStreamSynchronize(Handle) -> Status;
        cuTensorMapEncodeTiled(
            *mut c_void, c_int, u32, *mut c_void, *const u64, *const u64, *const u32, *const u32, c_int, c_int, c_int,
            c_int,
        ) -> Status;
    }
    optional {
        // since CUDA 12.4
        cuFuncGetParamInfo(Handle, usize, *mut usize, *mut usize) -> Status;
    }
}

/// Results of the driver that are told apart.
pub mod status {
    use super::Status;

    pub const OUT_OF_MEMORY: Status = 2;
    pub const NO_BINARY_FOR_GPU: Status = 209;
}

/// Attributes of a device.
pub mod attribute {
    use std::ffi::c_int;

    pub const MULTIPROCESSOR_COUNT: c_int = 16;
    pub const COMPUTE_CAPABILITY_MAJOR: c_int = 75;
    pub const COMPUTE_CAPABILITY_MINOR: c_int = 76;
    pub const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_int = 97;
    pub const MEMORY_POOLS_SUPPORTED: c_int = 115;
}

/// CU_STREAM_NON_BLOCKING: it does not wait for the default stream.
pub const STREAM_NON_BLOCKING: c_uint = 1;
/// CU_MEMPOOL_ATTR_RELEASE_THRESHOLD.
pub const POOL_RELEASE_THRESHOLD: c_int = 4;
/// CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES.
pub const MAX_DYNAMIC_SHARED: c_int = 8;

/// How TMA reads a matrix.
pub mod map {
    use std::ffi::c_int;

    pub const BFLOAT16: c_int = 9;
    pub const INTERLEAVE_NONE: c_int = 0;
    pub const SWIZZLE_128B: c_int = 3;
    pub const L2_PROMOTION_128B: c_int = 2;
    pub const FILL_NONE: c_int = 0;
}

table! {
    /// The functions of cublasLt (cublasLt.h).
    CublasLt {
        cublasLtCreate(*mut Handle) -> Status;
        cublasLtDestroy(Handle) -> Status;
        cublasLtGetVersion() -> usize;
        cublasLtMatmul(
            Handle, Handle, *const c_void, *const c_void, Handle, *const c_void, Handle, *const c_void, *const c_void,
            Handle, *mut c_void, Handle, *const Algorithm, *mut c_void, usize, Handle,
        ) -> Status;
        cublasLtMatmulAlgoCheck(
            Handle, Handle, Handle, Handle, Handle, Handle, *const Algorithm, *mut Heuristic,
        ) -> Status;
        cublasLtMatmulAlgoConfigGetAttribute(*const Algorithm, c_int, *mut c_void, usize, *mut usize) -> Status;
        cublasLtMatmulAlgoGetHeuristic(
            Handle, Handle, Handle, Handle, Handle, Handle, Handle, c_int, *mut Heuristic, *mut c_int,
        ) -> Status;
        cublasLtMatmulDescCreate(*mut Handle, c_int, c_int) -> Status;
        cublasLtMatmulDescDestroy(Handle) -> Status;
        cublasLtMatmulDescSetAttribute(Handle, c_int, *const c_void, usize) -> Status;
        cublasLtMatmulPreferenceCreate(*mut Handle) -> Status;
        cublasLtMatmulPreferenceDestroy(Handle) -> Status;
        cublasLtMatmulPreferenceSetAttribute(Handle, c_int, *const c_void, usize) -> Status;
        cublasLtMatrixLayoutCreate(*mut Handle, c_int, u64, u64, i64) -> Status;
        cublasLtMatrixLayoutDestroy(Handle) -> Status;
    }
    optional {}
}

/// cublasLtMatmulAlgo_t.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Algorithm {
    pub data: [u64; 8],
}

/// cublasLtMatmulHeuristicResult_t.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Heuristic {
    pub algorithm: Algorithm,
    pub workspace: usize,
    pub state: Status,
    pub waves: f32,
    pub reserved: [c_int; 4],
}

/// Numbers of cublasLt.
pub mod lt {
    use std::ffi::c_int;

    pub const R_16BF: c_int = 14;
    pub const R_32F: c_int = 0;
    pub const COMPUTE_32F: c_int = 68;
    pub const DESC_TRANSA: c_int = 3;
    pub const DESC_TRANSB: c_int = 4;
    pub const DESC_EPILOGUE: c_int = 7;
    pub const DESC_BIAS_POINTER: c_int = 8;
    pub const EPILOGUE_BIAS: u32 = 4;
    pub const REDUCTION_COMPUTE_TYPE: u32 = 2;
    pub const PREF_MAX_WORKSPACE_BYTES: c_int = 1;
    pub const PREF_REDUCTION_SCHEME_MASK: c_int = 3;
    pub const PREF_MIN_ALIGNMENT_A_BYTES: c_int = 5;
    pub const PREF_MIN_ALIGNMENT_B_BYTES: c_int = 6;
    pub const PREF_MIN_ALIGNMENT_C_BYTES: c_int = 7;
    pub const PREF_MIN_ALIGNMENT_D_BYTES: c_int = 8;
    pub const CONFIG_ID: c_int = 0;
    pub const CONFIG_TILE_ID: c_int = 1;
    pub const CONFIG_SPLITK_NUM: c_int = 2;
    pub const CONFIG_REDUCTION_SCHEME: c_int = 3;
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::cublaslt::sys as theirs_lt;
    use cudarc::driver::sys as theirs;
    use std::mem::offset_of;

    /// Against bindings that were generated from the headers.
    #[test]
    fn numbers_and_layouts_are_those_of_the_headers() {
        use theirs::CUdevice_attribute_enum::*;
        assert_eq!(attribute::MULTIPROCESSOR_COUNT, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as c_int);
        assert_eq!(attribute::COMPUTE_CAPABILITY_MAJOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as c_int);
        assert_eq!(attribute::COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as c_int);
        let shared = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as c_int;
        assert_eq!(attribute::MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, shared);
        assert_eq!(attribute::MEMORY_POOLS_SUPPORTED, CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED as c_int);
        assert_eq!(STREAM_NON_BLOCKING, theirs::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint);
        let threshold = theirs::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_int;
        assert_eq!(POOL_RELEASE_THRESHOLD, threshold);
        let dynamic = theirs::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_int;
        assert_eq!(MAX_DYNAMIC_SHARED, dynamic);
        assert_eq!(map::BFLOAT16, theirs::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 as c_int);
        let interleave = theirs::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE as c_int;
        assert_eq!(map::INTERLEAVE_NONE, interleave);
        assert_eq!(map::SWIZZLE_128B, theirs::CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B as c_int);
        let promotion = theirs::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_128B as c_int;
        assert_eq!(map::L2_PROMOTION_128B, promotion);
        assert_eq!(map::FILL_NONE, theirs::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE as c_int);
        assert_eq!(status::OUT_OF_MEMORY, theirs::CUresult::CUDA_ERROR_OUT_OF_MEMORY as c_int);
        assert_eq!(status::NO_BINARY_FOR_GPU, theirs::CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU as c_int);
        assert_eq!(size_of::<super::super::TensorMap>(), size_of::<theirs::CUtensorMap>());

        use theirs_lt::cublasLtMatmulAlgoConfigAttributes_t::*;
        use theirs_lt::cublasLtMatmulDescAttributes_t::*;
        use theirs_lt::cublasLtMatmulPreferenceAttributes_t::*;
        assert_eq!(lt::R_16BF, theirs_lt::cudaDataType_t::CUDA_R_16BF as c_int);
        assert_eq!(lt::R_32F, theirs_lt::cudaDataType_t::CUDA_R_32F as c_int);
        assert_eq!(lt::COMPUTE_32F, theirs_lt::cublasComputeType_t::CUBLAS_COMPUTE_32F as c_int);
        assert_eq!(
            [lt::DESC_TRANSA, lt::DESC_TRANSB, lt::DESC_EPILOGUE, lt::DESC_BIAS_POINTER],
            [
                CUBLASLT_MATMUL_DESC_TRANSA as c_int,
                CUBLASLT_MATMUL_DESC_TRANSB as c_int,
                CUBLASLT_MATMUL_DESC_EPILOGUE as c_int,
                CUBLASLT_MATMUL_DESC_BIAS_POINTER as c_int,
            ]
        );
        assert_eq!(lt::EPILOGUE_BIAS, theirs_lt::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32);
        let scheme = theirs_lt::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        assert_eq!(lt::REDUCTION_COMPUTE_TYPE, scheme);
        assert_eq!(
            [lt::PREF_MAX_WORKSPACE_BYTES, lt::PREF_REDUCTION_SCHEME_MASK],
            [CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as c_int, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as c_int,]
        );
        assert_eq!(
            [
                lt::PREF_MIN_ALIGNMENT_A_BYTES,
                lt::PREF_MIN_ALIGNMENT_B_BYTES,
                lt::PREF_MIN_ALIGNMENT_C_BYTES,
                lt::PREF_MIN_ALIGNMENT_D_BYTES,
            ],
            [
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES as c_int,
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES as c_int,
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES as c_int,
                CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES as c_int,
            ]
        );
        assert_eq!(
            [lt::CONFIG_ID, lt::CONFIG_TILE_ID, lt::CONFIG_SPLITK_NUM, lt::CONFIG_REDUCTION_SCHEME],
            [
                CUBLASLT_ALGO_CONFIG_ID as c_int,
                CUBLASLT_ALGO_CONFIG_TILE_ID as c_int,
                CUBLASLT_ALGO_CONFIG_SPLITK_NUM as c_int,
                CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME as c_int,
            ]
        );
        type Theirs = theirs_lt::cublasLtMatmulHeuristicResult_t;
        assert_eq!(size_of::<Heuristic>(), size_of::<Theirs>());
        assert_eq!(
            [offset_of!(Heuristic, workspace), offset_of!(Heuristic, state), offset_of!(Heuristic, waves)],
            [offset_of!(Theirs, workspaceSize), offset_of!(Theirs, state), offset_of!(Theirs, wavesCount)]
        );
    }
}
