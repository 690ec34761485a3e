//! The functions and numbers of the driver and of cublasLt that are called here: the numbers are those of cudarc, which
//! it generates from NVIDIA's headers. They are the same from CUDA 12.2 to 13.
//!
//! cudarc looks its functions up in whatever library of that name is first on the loader's path, which may be a
//! toolkit's stub or another version. A table here is filled from the handle of one library, so every call goes to the
//! library that was found and checked. Results are numbers and no enumerations: a driver may know more of them than its
//! header did.
#![allow(unsafe_code)] // calls into the libraries

use cudarc::driver::sys as driver;
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
    use cudarc::driver::sys::CUresult::*;

    pub const OUT_OF_MEMORY: Status = CUDA_ERROR_OUT_OF_MEMORY as Status;
    pub const NO_BINARY_FOR_GPU: Status = CUDA_ERROR_NO_BINARY_FOR_GPU as Status;
}

/// Attributes of a device.
pub mod attribute {
    use cudarc::driver::sys::CUdevice_attribute_enum::*;
    use std::ffi::c_int;

    pub const MULTIPROCESSOR_COUNT: c_int = CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT as c_int;
    pub const COMPUTE_CAPABILITY_MAJOR: c_int = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as c_int;
    pub const COMPUTE_CAPABILITY_MINOR: c_int = CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as c_int;
    pub const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: c_int = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN as c_int;
    pub const MEMORY_POOLS_SUPPORTED: c_int = CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED as c_int;
}

/// A stream that does not wait for the default stream.
pub const STREAM_NON_BLOCKING: c_uint = driver::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as c_uint;
/// Bytes of freed memory that a pool keeps.
pub const POOL_RELEASE_THRESHOLD: c_int = driver::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD as c_int;
/// The most dynamic shared memory of a kernel.
pub const MAX_DYNAMIC_SHARED: c_int =
    driver::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES as c_int;

/// How TMA reads a matrix.
pub mod map {
    use cudarc::driver::sys::{
        CUtensorMapDataType_enum, CUtensorMapFloatOOBfill_enum, CUtensorMapInterleave_enum,
        CUtensorMapL2promotion_enum, CUtensorMapSwizzle_enum,
    };
    use std::ffi::c_int;

    pub const BFLOAT16: c_int = CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 as c_int;
    pub const INTERLEAVE_NONE: c_int = CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE as c_int;
    pub const SWIZZLE_128B: c_int = CUtensorMapSwizzle_enum::CU_TENSOR_MAP_SWIZZLE_128B as c_int;
    pub const L2_PROMOTION_128B: c_int = CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_128B as c_int;
    pub const FILL_NONE: c_int = CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE as c_int;
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
    use cudarc::cublaslt::sys::cublasLtMatmulAlgoConfigAttributes_t::*;
    use cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t::*;
    use cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t::*;
    use cudarc::cublaslt::sys::{cublasComputeType_t, cublasLtEpilogue_t, cublasLtReductionScheme_t, cudaDataType_t};
    use std::ffi::c_int;

    pub const R_16BF: c_int = cudaDataType_t::CUDA_R_16BF as c_int;
    pub const R_32F: c_int = cudaDataType_t::CUDA_R_32F as c_int;
    pub const COMPUTE_32F: c_int = cublasComputeType_t::CUBLAS_COMPUTE_32F as c_int;
    pub const DESC_TRANSA: c_int = CUBLASLT_MATMUL_DESC_TRANSA as c_int;
    pub const DESC_TRANSB: c_int = CUBLASLT_MATMUL_DESC_TRANSB as c_int;
    pub const DESC_EPILOGUE: c_int = CUBLASLT_MATMUL_DESC_EPILOGUE as c_int;
    pub const DESC_BIAS_POINTER: c_int = CUBLASLT_MATMUL_DESC_BIAS_POINTER as c_int;
    pub const EPILOGUE_BIAS: u32 = cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
    pub const REDUCTION_COMPUTE_TYPE: u32 = cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
    pub const PREF_MAX_WORKSPACE_BYTES: c_int = CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as c_int;
    pub const PREF_REDUCTION_SCHEME_MASK: c_int = CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK as c_int;
    pub const PREF_MIN_ALIGNMENT_A_BYTES: c_int = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES as c_int;
    pub const PREF_MIN_ALIGNMENT_B_BYTES: c_int = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES as c_int;
    pub const PREF_MIN_ALIGNMENT_C_BYTES: c_int = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES as c_int;
    pub const PREF_MIN_ALIGNMENT_D_BYTES: c_int = CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES as c_int;
    pub const CONFIG_ID: c_int = CUBLASLT_ALGO_CONFIG_ID as c_int;
    pub const CONFIG_TILE_ID: c_int = CUBLASLT_ALGO_CONFIG_TILE_ID as c_int;
    pub const CONFIG_SPLITK_NUM: c_int = CUBLASLT_ALGO_CONFIG_SPLITK_NUM as c_int;
    pub const CONFIG_REDUCTION_SCHEME: c_int = CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME as c_int;
}

#[cfg(test)]
mod tests {
    use super::*;
    use cudarc::cublaslt::sys::cublasLtMatmulHeuristicResult_t;
    use std::mem::offset_of;

    #[test]
    fn layouts_are_those_of_the_headers() {
        assert_eq!(size_of::<super::super::TensorMap>(), size_of::<driver::CUtensorMap>());
        type Theirs = cublasLtMatmulHeuristicResult_t;
        assert_eq!(size_of::<Heuristic>(), size_of::<Theirs>());
        assert_eq!(
            [offset_of!(Heuristic, workspace), offset_of!(Heuristic, state), offset_of!(Heuristic, waves)],
            [offset_of!(Theirs, workspaceSize), offset_of!(Theirs, state), offset_of!(Theirs, wavesCount)]
        );
    }
}
