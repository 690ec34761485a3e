//! cublasLt, the library of matrix products: what a product is in its terms, which algorithms it offers, and running
//! one.
//!
//! cublasLt thinks in columns. A row-major `[r, c]` is its column-major `[c, r]`, so `C = A B` is asked for as
//! `Cᵀ = Bᵀ Aᵀ`: operands change places and nothing is transposed.
#![allow(unsafe_code)] // calls into the library

use super::device::Out;
use super::failure;
use super::libraries::{self, CUBLASLT, Opened};
use super::plans::{Choice, Problem};
use super::sys::{Algorithm, CublasLt, Handle, Heuristic, Status, lt};
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

/// Sums of parts in the compute type, f32, in a fixed order. In place is left out: there the parts of a sum may meet in
/// the order in which they are done. So is the output's type: parts would be rounded to bf16 before they meet.
const REDUCTIONS: u32 = lt::REDUCTION_COMPUTE_TYPE;

/// Algorithms to choose among.
const CANDIDATES: usize = 8;

/// What a call gives, or the library's words for its failure.
type Attempt<T> = Result<T, String>;

fn check(status: Status) -> Attempt<()> {
    let words = match status {
        0 => return Ok(()),
        1 => "it is not initialised",
        3 => "it has no memory",
        7 => "a value is invalid",
        8 => "the GPU lacks a feature",
        11 => "memory cannot be reached",
        13 => "the GPU failed",
        14 => "internal error",
        15 => "not supported",
        16 => "no licence",
        _ => "unknown",
    };
    Err(format!("cublasLt status {status}, {words}"))
}

/// The library, open for the device of the bound context.
pub struct Lt {
    functions: CublasLt,
    handle: Handle,
    place: String,
}

impl Drop for Lt {
    fn drop(&mut self) {
        // SAFETY: the handle came from cublasLtCreate, and this is its only owner.
        let _ = unsafe { (self.functions.cublasLtDestroy)(self.handle) };
    }
}

/// Finds the library that a driver of this CUDA version serves. Fails with the reason.
pub fn find(driver: i32) -> Attempt<Opened> {
    let folders = libraries::folders();
    libraries::open(libraries::served(CUBLASLT, driver), &folders).map_err(|why| {
        // one that is there and does not serve says more than one that is missing
        let [newer, ..] = CUBLASLT else { return why };
        match libraries::files(&[newer], &folders).first().filter(|_| driver < failure::CUDA_13) {
            Some(path) => format!("{} needs a driver of CUDA 13, and {why}", path.display()),
            None => why,
        }
    })
}

impl Lt {
    /// Opens the library that [`find`] finds. Fails with the reason.
    pub fn open(driver: i32) -> Attempt<Lt> {
        let opened = find(driver)?;
        let place = opened.place();
        let functions = CublasLt::load(opened.library).map_err(|name| format!("{place} has no {name}"))?;
        let mut handle = ptr::null_mut();
        // SAFETY: a valid place for a handle.
        let created = check(unsafe { (functions.cublasLtCreate)(&mut handle) });
        created.map_err(|why| format!("{place} does not start: {why}"))?;
        Ok(Lt { functions, handle, place })
    }

    /// Its version: 10,000 x major + 100 x minor + patch.
    pub fn version(&self) -> usize {
        // SAFETY: no preconditions.
        unsafe { (self.functions.cublasLtGetVersion)() }
    }

    /// Its file.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Up to eight algorithms for a product, in the library's order of expected speed, that need at most `workspace`
    /// bytes and give the same bits each time.
    pub fn candidates(&self, product: &Described, problem: &Problem, workspace: usize) -> Attempt<Vec<Choice>> {
        let preferences = Preferences::new(&self.functions)?;
        preferences.set(lt::PREF_MAX_WORKSPACE_BYTES, &workspace)?;
        preferences.set(lt::PREF_REDUCTION_SCHEME_MASK, &REDUCTIONS)?;
        let [a, b, c] = problem.alignment;
        preferences.set(lt::PREF_MIN_ALIGNMENT_A_BYTES, &b)?;
        preferences.set(lt::PREF_MIN_ALIGNMENT_B_BYTES, &a)?;
        preferences.set(lt::PREF_MIN_ALIGNMENT_C_BYTES, &c)?;
        preferences.set(lt::PREF_MIN_ALIGNMENT_D_BYTES, &c)?;
        let mut found = [const { MaybeUninit::<Heuristic>::uninit() }; CANDIDATES];
        let mut count = 0;
        // SAFETY: live descriptors, and room for as many results as are asked for.
        check(unsafe {
            (self.functions.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                product.operation,
                product.a,
                product.b,
                product.c,
                product.c,
                preferences.preferences,
                CANDIDATES as c_int,
                found.as_mut_ptr().cast(),
                &mut count,
            )
        })?;
        let found = &found[..usize::try_from(count).unwrap_or(0).min(CANDIDATES)];
        // SAFETY: the library has filled as many as it says.
        let found = found.iter().map(|result| unsafe { result.assume_init() });
        Ok(found.filter(|result| result.state == 0).map(|result| self.choice(&result)).collect())
    }

    fn choice(&self, result: &Heuristic) -> Choice {
        let attribute = |attribute| {
            let (mut value, mut written) = (0u32, 0);
            // SAFETY: an algorithm that the library gave, and room for the attribute's 32 bits.
            let status = unsafe {
                let to = (&raw mut value).cast();
                let get = self.functions.cublasLtMatmulAlgoConfigGetAttribute;
                get(&result.algorithm, attribute, to, 4, &mut written)
            };
            (status == 0).then_some(value)
        };
        Choice {
            algorithm: result.algorithm.data,
            workspace: result.workspace,
            id: attribute(lt::CONFIG_ID),
            tile: attribute(lt::CONFIG_TILE_ID),
            splits: attribute(lt::CONFIG_SPLITK_NUM),
            reduction: attribute(lt::CONFIG_REDUCTION_SCHEME),
            microseconds: None,
        }
    }

    /// Whether an algorithm, chosen for another product perhaps, does this one in at most `workspace` bytes.
    pub fn does(&self, product: &Described, choice: &Choice, workspace: usize) -> bool {
        let algorithm = Algorithm { data: choice.algorithm };
        let mut result = MaybeUninit::<Heuristic>::uninit();
        // SAFETY: live descriptors, an algorithm of this library's version, and room for the result, which is read only
        // where the library says that it has written it.
        unsafe {
            let Described { operation, a, b, c, .. } = *product;
            let (algorithm, to) = (&raw const algorithm, result.as_mut_ptr());
            let does = self.functions.cublasLtMatmulAlgoCheck;
            does(self.handle, operation, a, b, c, c, algorithm, to) == 0 && result.assume_init().workspace <= workspace
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
        let algorithm = Algorithm { data: choice.algorithm };
        // SAFETY: live descriptors; the scalars are read before the call returns; the rest is the caller's promise.
        check(unsafe {
            (self.functions.cublasLtMatmul)(
                self.handle,
                product.operation,
                (&raw const alpha).cast(),
                pointer(b),
                product.a,
                pointer(a),
                product.b,
                (&raw const beta).cast(),
                pointer(c),
                product.c,
                pointer(c),
                product.c,
                &algorithm,
                pointer(workspace.0),
                workspace.1,
                stream,
            )
        })
    }

    /// Describes a product; `bias` is the address of a value for each column of `c`.
    pub fn describe(&self, problem: &Problem, bias: Option<u64>) -> Attempt<Described<'_>> {
        let functions = &self.functions;
        let null = ptr::null_mut();
        let mut all = Described { functions, operation: null, a: null, b: null, c: null };
        // SAFETY: a valid place for a handle.
        check(unsafe { (functions.cublasLtMatmulDescCreate)(&mut all.operation, lt::COMPUTE_32F, lt::R_32F) })?;
        let operation = all.operation;
        let set = |attribute, value: *const c_void, bytes| {
            // SAFETY: a live descriptor, and a value of that many bytes.
            check(unsafe { (functions.cublasLtMatmulDescSetAttribute)(operation, attribute, value, bytes) })
        };
        let [a, b] = problem.transposed.map(i32::from); // CUBLAS_OP_N, CUBLAS_OP_T
        set(lt::DESC_TRANSA, (&raw const b).cast(), 4)?;
        set(lt::DESC_TRANSB, (&raw const a).cast(), 4)?;
        if let Some(address) = bias {
            let epilogue = lt::EPILOGUE_BIAS;
            set(lt::DESC_EPILOGUE, (&raw const epilogue).cast(), 4)?;
            set(lt::DESC_BIAS_POINTER, (&raw const address).cast(), 8)?;
        }
        let [m, n, k] = problem.shape;
        let [lda, ldb, ldc] = problem.ld;
        // rows and columns as they lie in memory, so before any transposition
        let stored = |rows, columns, transposed| if transposed { (rows, columns) } else { (columns, rows) };
        let layout = |to: &mut Handle, kind, (rows, columns): (usize, usize), ld| {
            // SAFETY: a valid place for a handle.
            check(unsafe { (functions.cublasLtMatrixLayoutCreate)(to, kind, rows as u64, columns as u64, ld as i64) })
        };
        let out = match problem.out {
            Out::Bf16 => lt::R_16BF,
            Out::F32 => lt::R_32F,
        };
        layout(&mut all.a, lt::R_16BF, stored(k, n, problem.transposed[1]), ldb)?;
        layout(&mut all.b, lt::R_16BF, stored(m, k, problem.transposed[0]), lda)?;
        layout(&mut all.c, out, (n, m), ldc)?;
        Ok(all)
    }
}

/// A product as the library is told of it: `a` and `b` have changed places.
pub struct Described<'a> {
    functions: &'a CublasLt,
    operation: Handle,
    a: Handle,
    b: Handle,
    c: Handle,
}

impl Drop for Described<'_> {
    fn drop(&mut self) {
        // SAFETY: what is not null came from its constructor, and this is its only owner.
        unsafe {
            if !self.operation.is_null() {
                let _ = (self.functions.cublasLtMatmulDescDestroy)(self.operation);
            }
            for layout in [self.a, self.b, self.c].into_iter().filter(|layout| !layout.is_null()) {
                let _ = (self.functions.cublasLtMatrixLayoutDestroy)(layout);
            }
        }
    }
}

struct Preferences<'a> {
    functions: &'a CublasLt,
    preferences: Handle,
}

impl Drop for Preferences<'_> {
    fn drop(&mut self) {
        // SAFETY: it came from its constructor, and this is its only owner.
        let _ = unsafe { (self.functions.cublasLtMatmulPreferenceDestroy)(self.preferences) };
    }
}

impl Preferences<'_> {
    fn new(functions: &CublasLt) -> Attempt<Preferences<'_>> {
        let mut preferences = ptr::null_mut();
        // SAFETY: a valid place for a handle.
        check(unsafe { (functions.cublasLtMatmulPreferenceCreate)(&mut preferences) })?;
        Ok(Preferences { functions, preferences })
    }

    fn set<T>(&self, attribute: c_int, value: &T) -> Attempt<()> {
        let set = self.functions.cublasLtMatmulPreferenceSetAttribute;
        // SAFETY: live preferences, and a value of its own size.
        check(unsafe { set(self.preferences, attribute, (&raw const *value).cast(), size_of::<T>()) })
    }
}
