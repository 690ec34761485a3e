//! cublasLt, the library of matrix products: what a product is in its terms, which algorithms it offers, and running
//! one.
//!
//! cublasLt thinks in columns. A row-major `[r, c]` is its column-major `[c, r]`, so `C = A B` is asked for as
//! `Cᵀ = Bᵀ Aᵀ`: operands change places and nothing is transposed.
#![allow(unsafe_code)] // calls into the library

use super::device::Out;
use super::libraries::{self, CUBLASLT, Opened};
use super::plans::{Choice, Problem};
use cudarc::cublaslt::result::CublasError;
use cudarc::cublaslt::{result, sys};
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Functions of the library that are called here; cudarc panics over a missing one.
const FUNCTIONS: [&str; 15] = [
    "cublasLtCreate",
    "cublasLtDestroy",
    "cublasLtGetVersion",
    "cublasLtMatmul",
    "cublasLtMatmulAlgoCheck",
    "cublasLtMatmulAlgoConfigGetAttribute",
    "cublasLtMatmulAlgoGetHeuristic",
    "cublasLtMatmulDescCreate",
    "cublasLtMatmulDescDestroy",
    "cublasLtMatmulDescSetAttribute",
    "cublasLtMatmulPreferenceCreate",
    "cublasLtMatmulPreferenceDestroy",
    "cublasLtMatmulPreferenceSetAttribute",
    "cublasLtMatrixLayoutCreate",
    "cublasLtMatrixLayoutDestroy",
];

/// Sums of parts in the compute type, f32, in a fixed order. In place is left out: there the parts of a sum may meet in
/// the order in which they are done. So is the output's type: parts would be rounded to bf16 before they meet.
const REDUCTIONS: u32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;

/// Algorithms to choose among.
const CANDIDATES: usize = 8;

type Attempt<T> = Result<T, CublasError>;

/// The library, opened for the device of the bound context.
pub struct Lt {
    handle: sys::cublasLtHandle_t,
}

impl Drop for Lt {
    fn drop(&mut self) {
        // SAFETY: the handle came from create_handle, and this is its only owner.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Lt {
    /// Opens the library. Fails with the reason.
    pub fn open() -> Result<Lt, String> {
        let Opened { library, .. } = libraries::open(CUBLASLT, &libraries::folders())?;
        for name in FUNCTIONS {
            // SAFETY: the symbol is looked up and not used.
            if unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err() {
                return Err(format!("{CUBLASLT} has no {name}"));
            }
        }
        // SAFETY: tries to open the library, as above.
        if !unsafe { sys::is_culib_present() } {
            return Err(format!("{CUBLASLT} cannot be opened by its name"));
        }
        // SAFETY: as the library's header declares it.
        let opened = unsafe { library.get::<unsafe extern "C" fn() -> usize>(b"cublasLtGetVersion") };
        // SAFETY: no preconditions; FUNCTIONS has it.
        let version = opened.map(|version| unsafe { version() }).map_err(|why| why.to_string())?;
        // SAFETY: no preconditions.
        let called = unsafe { sys::cublasLtGetVersion() };
        if version != called {
            return Err(format!(
                "the {CUBLASLT} that was found is version {version}, and the loader's is {called}; set LD_LIBRARY_PATH \
                 to the folder of the one to use"
            ));
        }
        let handle = result::create_handle().map_err(|why| why.to_string())?;
        Ok(Lt { handle })
    }

    /// Its version: 10,000 x major + 100 x minor + patch.
    pub fn version(&self) -> usize {
        // SAFETY: no preconditions; the function is there.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// Up to eight algorithms for a product, in the library's order of expected speed, that need at most `workspace`
    /// bytes and give the same bits each time.
    pub fn candidates(&self, product: &Described, problem: &Problem, workspace: usize) -> Attempt<Vec<Choice>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Preference;
        let preferences = Preferences::new()?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &REDUCTIONS)?;
        let [a, b, c] = problem.alignment;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c)?;
        preferences.set(Preference::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c)?;
        let mut found = [const { MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: live descriptors, and room for as many results as are asked for.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                product.operation,
                product.a,
                product.b,
                product.c,
                product.c,
                preferences.0,
                CANDIDATES as i32,
                found.as_mut_ptr().cast(),
                &mut count,
            )
        };
        status.result()?;
        let found = &found[..usize::try_from(count).unwrap_or(0).min(CANDIDATES)];
        // SAFETY: the library has filled as many as it says.
        let found = found.iter().map(|result| unsafe { result.assume_init() });
        Ok(found.filter(|result| result.state.result().is_ok()).map(|result| self.choice(&result)).collect())
    }

    fn choice(&self, result: &sys::cublasLtMatmulHeuristicResult_t) -> Choice {
        use sys::cublasLtMatmulAlgoConfigAttributes_t as Attribute;
        let attribute = |attribute| {
            let (mut value, mut written) = (0u32, 0);
            // SAFETY: an algorithm that the library gave, and room for the attribute's 32 bits.
            let status = unsafe {
                let to = (&raw mut value).cast();
                sys::cublasLtMatmulAlgoConfigGetAttribute(&result.algo, attribute, to, 4, &mut written)
            };
            status.result().ok().map(|()| value)
        };
        Choice {
            algorithm: result.algo.data,
            workspace: result.workspaceSize,
            id: attribute(Attribute::CUBLASLT_ALGO_CONFIG_ID),
            tile: attribute(Attribute::CUBLASLT_ALGO_CONFIG_TILE_ID),
            splits: attribute(Attribute::CUBLASLT_ALGO_CONFIG_SPLITK_NUM),
            reduction: attribute(Attribute::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME),
            microseconds: None,
        }
    }

    /// Whether an algorithm, chosen for another product perhaps, does this one in at most `workspace` bytes.
    pub fn does(&self, product: &Described, choice: &Choice, workspace: usize) -> bool {
        let algorithm = sys::cublasLtMatmulAlgo_t { data: choice.algorithm };
        let mut result = MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::uninit();
        // SAFETY: live descriptors, an algorithm of this library's version, and room for the result, which is read only
        // where the library says that it has written it.
        unsafe {
            let Described { operation, a, b, c } = *product;
            let (algorithm, to) = (&raw const algorithm, result.as_mut_ptr());
            let status = sys::cublasLtMatmulAlgoCheck(self.handle, operation, a, b, c, c, algorithm, to);
            status.result().is_ok() && result.assume_init().workspaceSize <= workspace
        }
    }

    /// Starts `c = alpha a b + beta c` on a stream.
    ///
    /// # Safety
    /// The addresses must be of memory on the device that holds the matrices of the description and `workspace.1`
    /// bytes, and the stream must be of the context that the library was opened in.
    pub unsafe fn start(
        &self, product: &Described, choice: &Choice, [alpha, beta]: [f32; 2], [a, b, c]: [u64; 3],
        workspace: (u64, usize), stream: *mut c_void,
    ) -> Attempt<()> {
        let pointer = |address: u64| address as *mut c_void;
        let algorithm = sys::cublasLtMatmulAlgo_t { data: choice.algorithm };
        // SAFETY: live descriptors; the scalars are read before the call returns; the rest is the caller's promise.
        unsafe {
            result::matmul(
                self.handle,
                product.operation,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                pointer(b),
                product.a,
                pointer(a),
                product.b,
                pointer(c),
                product.c,
                pointer(c),
                product.c,
                &algorithm,
                pointer(workspace.0),
                workspace.1,
                stream.cast(),
            )
        }
    }
}

/// A product as the library is told of it: `a` and `b` have changed places.
pub struct Described {
    operation: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    c: sys::cublasLtMatrixLayout_t,
}

impl Drop for Described {
    fn drop(&mut self) {
        // SAFETY: what is not null came from its constructor, and this is its only owner.
        unsafe {
            if !self.operation.is_null() {
                let _ = result::destroy_matmul_desc(self.operation);
            }
            for layout in [self.a, self.b, self.c].into_iter().filter(|layout| !layout.is_null()) {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Described {
    /// Describes a product; `bias` is the address of a value for each column of `c`.
    pub fn new(problem: &Problem, bias: Option<u64>) -> Attempt<Described> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        use sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_32F};
        let null = std::ptr::null_mut();
        let mut all = Described { operation: std::ptr::null_mut(), a: null, b: null, c: null };
        all.operation = result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, CUDA_R_32F)?;
        let set = |attribute, value: *const c_void, bytes| {
            // SAFETY: a live descriptor, and a value of that many bytes.
            unsafe { result::set_matmul_desc_attribute(all.operation, attribute, value, bytes) }
        };
        let operation = |transposed: bool| i32::from(transposed); // CUBLAS_OP_N, CUBLAS_OP_T
        let [a, b] = problem.transposed.map(operation);
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, (&raw const b).cast(), 4)?;
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, (&raw const a).cast(), 4)?;
        if let Some(address) = bias {
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), 4)?;
            set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const address).cast(), 8)?;
        }
        let [m, n, k] = problem.shape;
        let [lda, ldb, ldc] = problem.ld;
        // rows and columns as they lie in memory, so before any transposition
        let stored = |rows, columns, transposed| if transposed { (rows, columns) } else { (columns, rows) };
        let layout = |kind, (rows, columns): (usize, usize), ld| {
            result::create_matrix_layout(kind, rows as u64, columns as u64, ld as i64)
        };
        let out = match problem.out {
            Out::Bf16 => CUDA_R_16BF,
            Out::F32 => CUDA_R_32F,
        };
        all.a = layout(CUDA_R_16BF, stored(k, n, problem.transposed[1]), ldb)?;
        all.b = layout(CUDA_R_16BF, stored(m, k, problem.transposed[0]), lda)?;
        all.c = layout(out, (n, m), ldc)?;
        Ok(all)
    }
}

struct Preferences(sys::cublasLtMatmulPreference_t);

impl Drop for Preferences {
    fn drop(&mut self) {
        // SAFETY: it came from its constructor, and this is its only owner.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

impl Preferences {
    fn new() -> Attempt<Preferences> {
        result::create_matmul_pref().map(Preferences)
    }

    fn set<T>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: &T) -> Attempt<()> {
        // SAFETY: live preferences, and a value of its own size.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, (&raw const *value).cast(), size_of::<T>()) }
    }
}
