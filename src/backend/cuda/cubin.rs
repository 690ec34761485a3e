//! What the machine code of a kernel says about itself: registers, stack, shared memory, parameters, instructions.
//!
//! A cubin is an ELF64 file. `.text.NAME` is a kernel's code, 16 bytes an instruction, whose low 12 bits are the
//! opcode. `.nv.shared.NAME` has the size of its static shared memory. `.nv.info` and `.nv.info.NAME` are lists of
//! attributes: a format byte, an attribute byte, and two bytes that are a value or the length of what follows. NVIDIA
//! documents none of it; attributes and opcodes were determined from nvdisasm's listings of cubins of NVRTC 13.0 for
//! every architecture of [`super::architecture::ARCHITECTURES`], and tests hold them against the reports of the
//! assemblers of 12.9 and 13.0. Hopper's code is walked as well (`flight`, `loops`).
//!
//! Any bytes may be given: what is not a whole cubin is refused.

use super::sass::Word;
use super::{flight, loops};
use std::collections::{BTreeMap, HashMap};

/// Instructions that are counted: those that tell how a kernel works, and those that it should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// A tensor-core product of a warp (`mma.sync`).
    Hmma,
    /// A tensor-core product of four warps (`wgmma`, Hopper).
    Hgmma,
    /// Matrix fragments out of shared memory (`ldmatrix`).
    Ldsm,
    /// Matrix fragments into shared memory (`stmatrix`).
    Stsm,
    /// An asynchronous copy into shared memory (`cp.async`).
    Ldgsts,
    /// A tile of a tensor into shared memory by the copy engine (TMA).
    Utmaldg,
    /// A tile of a tensor out of shared memory by the copy engine (TMA).
    Utmastg,
    /// Registers moved between warp groups (`setmaxnreg`).
    Usetmaxreg,
    /// A load from a thread's stack: a spill, or an array with a variable index.
    Ldl,
    /// A store to a thread's stack.
    Stl,
    /// An atomic operation, whose order, and so whose rounding, changes from run to run.
    Atomic,
}

use Instruction::*;

impl Instruction {
    /// All, in the order of [`Kernel::counts`].
    pub const ALL: [Instruction; 11] =
        [Hmma, Hgmma, Ldsm, Stsm, Ldgsts, Utmaldg, Utmastg, Usetmaxreg, Ldl, Stl, Atomic];

    /// The disassembler's name; `ATOMIC` for its several.
    pub fn name(self) -> &'static str {
        match self {
            Hmma => "HMMA",
            Hgmma => "HGMMA",
            Ldsm => "LDSM",
            Stsm => "STSM",
            Ldgsts => "LDGSTS",
            Utmaldg => "UTMALDG",
            Utmastg => "UTMASTG",
            Usetmaxreg => "USETMAXREG",
            Ldl => "LDL",
            Stl => "STL",
            Atomic => "ATOMIC",
        }
    }

    fn of(opcode: u16) -> Option<Instruction> {
        Some(match opcode {
            0x23c => Hmma,
            0x9f0 | 0xdf0 => Hgmma, // the left operand in shared memory, in registers
            0x83b => Ldsm,
            0x844 => Stsm,
            0xfae => Ldgsts,
            0x5b4 => Utmaldg,
            0x3b5 => Utmastg,
            0x9c8 => Usetmaxreg,
            0x983 => Ldl,
            0x387 => Stl,
            // ATOMG, ATOMS, RED and REDG, UBLKRED
            0x3a9 | 0x9a3 | 0x9a8 | 0x38d | 0x58d | 0xf8c | 0x98e | 0x9a6 | 0x3bb => Atomic,
            _ => return None,
        })
    }
}

/// One kernel of a cubin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// Its `extern "C"` name.
    pub name: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of stack of a thread: spilled registers and arrays with variable indices.
    pub stack: u32,
    /// Bytes of static shared memory of a block, without the system's.
    pub shared: u32,
    /// Bytes of each parameter, in order.
    pub parameters: Vec<u32>,
    /// Instructions, those of padding included.
    pub instructions: usize,
    /// How often each of [`Instruction::ALL`] occurs in the code.
    pub counts: [u32; Instruction::ALL.len()],
    /// Threads of a block at most, where the source says so; else 0.
    pub threads: u32,
    /// Registers of a thread that each `setmaxnreg` of the code asks for.
    pub wanted: Vec<u32>,
    /// Instructions of its main loop (`loops::main`); 0 for other architectures than Hopper.
    pub in_loop: u32,
    /// What touches registers of products under way (`flight::hazards`); empty for another architecture.
    pub hazards: Vec<String>,
}

impl Kernel {
    /// How often an instruction occurs in the code.
    pub fn count(&self, instruction: Instruction) -> u32 {
        self.counts[instruction as usize]
    }

    /// Loads from and stores to a thread's stack.
    pub fn stack_accesses(&self) -> u32 {
        self.count(Ldl) + self.count(Stl)
    }

    /// Why the kernel must not run: its results would be wrong, or it would wait forever.
    pub fn fault(&self) -> Option<String> {
        let waits = || format!("setmaxnreg waits forever for {} registers", self.lacking());
        self.hazards.first().cloned().or_else(|| (self.lacking() > 0).then(waits))
    }

    /// Registers of a warpgroup's threads together that the block lacks, where one warpgroup takes the least that a
    /// `setmaxnreg` asks for and all others the most: what a block has is what it was launched with, and an instruction
    /// that asks for more waits forever.
    pub fn lacking(&self) -> u32 {
        let (Some(least), Some(most)) = (self.wanted.iter().min(), self.wanted.iter().max()) else { return 0 };
        let warpgroups = self.threads / 128;
        let asked = least.saturating_add(most.saturating_mul(warpgroups.saturating_sub(1)));
        asked.saturating_sub(self.registers.saturating_mul(warpgroups))
    }
}

/// The bytes are not a cubin.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a whole cubin: {0}")]
pub struct Malformed(&'static str);

type Result<T> = std::result::Result<T, Malformed>;

const CUDA: u16 = 190; // e_machine
const NEW_FORMAT: u32 = 8; // e_ident[EI_ABIVERSION]
const SECTION: usize = 64; // bytes of a section's header
const SYMBOL: usize = 24; // bytes of a symbol
const NO_BITS: u32 = 8; // sh_type of sections that have a size but no bytes
/// From sm_90 on, shared memory begins with 1 KiB of the system, which the section's size includes.
const SYSTEM_SHARED: (u32, u32) = (90, 1024);
/// The architecture whose instructions are decoded ([`super::sass`]).
const HOPPER: u32 = 90;

const THREADS: u8 = 0x05; // EIATTR_MAX_THREADS
const STACK: u8 = 0x11; // EIATTR_FRAME_SIZE
const PARAMETER: u8 = 0x17; // EIATTR_KPARAM_INFO
const REGISTERS: u8 = 0x2f; // EIATTR_REGCOUNT
/// The format of attributes with a payload behind them.
const PAYLOAD: u8 = 4;

/// Reads all kernels of a cubin, by name.
pub fn read(bytes: &[u8]) -> Result<Vec<Kernel>> {
    Elf::parse(bytes)?.kernels()
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(Malformed("it ends too early"))
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    slice(bytes, at, N)?.try_into().map_err(|_| Malformed("it ends too early"))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    Ok(u16::from_le_bytes(number(bytes, at)?))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    Ok(u32::from_le_bytes(number(bytes, at)?))
}

fn usize_at(bytes: &[u8], at: usize) -> Result<usize> {
    usize::try_from(u64::from_le_bytes(number(bytes, at)?)).map_err(|_| Malformed("a size is beyond this machine"))
}

/// The NUL-terminated string at an offset of a string table.
fn string(table: &[u8], at: u32) -> Result<&str> {
    let rest = table.get(at as usize..).ok_or(Malformed("a name lies outside its table"))?;
    // names of kernels are short; a limit keeps hostile tables cheap
    let rest = &rest[..rest.len().min(1024)];
    let end = rest.iter().position(|&byte| byte == 0).ok_or(Malformed("a name has no end"))?;
    std::str::from_utf8(&rest[..end]).map_err(|_| Malformed("a name is not text"))
}

struct Section<'a> {
    name: &'a str,
    /// Its bytes; none for a section of no bits, which has its size only.
    bytes: &'a [u8],
    size: usize,
    /// Index of an associated section.
    link: u32,
}

struct Elf<'a> {
    sections: Vec<Section<'a>>,
    /// `90` for sm_90 and sm_90a.
    architecture: u32,
}

impl<'a> Elf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Elf<'a>> {
        // 64 bits, little-endian
        if !bytes.starts_with(b"\x7fELF\x02\x01") {
            return Err(Malformed("it is no ELF64 file"));
        }
        if u16_at(bytes, 18)? != CUDA {
            return Err(Malformed("it is for another machine than a GPU"));
        }
        let (table, size, count) = (usize_at(bytes, 40)?, u16_at(bytes, 58)?, usize::from(u16_at(bytes, 60)?));
        if usize::from(size) != SECTION {
            return Err(Malformed("its section headers have another size"));
        }
        let headers = slice(bytes, table, count * SECTION)?;
        let header = |i: usize| slice(headers, i * SECTION, SECTION);
        let contents = |header: &[u8]| {
            let (at, size) = (usize_at(header, 24)?, usize_at(header, 32)?);
            if u32_at(header, 4)? == NO_BITS { Ok(&[][..]) } else { slice(bytes, at, size) }
        };
        let names = contents(header(u16_at(bytes, 62)?.into())?)?;
        let section = |i: usize| {
            let header = header(i)?;
            Ok(Section {
                name: string(names, u32_at(header, 0)?)?,
                bytes: contents(header)?,
                size: usize_at(header, 32)?,
                link: u32_at(header, 40)?,
            })
        };
        // the format for devices before Blackwell of CUDA 12 has it in another byte of the flags
        let [format, flags] = [u32::from(bytes[8]), u32_at(bytes, 48)?];
        let architecture = (if format < NEW_FORMAT { flags } else { flags >> 8 }) & 0xff;
        Ok(Elf { sections: (0..count).map(section).collect::<Result<_>>()?, architecture })
    }

    fn kernels(&self) -> Result<Vec<Kernel>> {
        let mut kernels = BTreeMap::new();
        for section in &self.sections {
            if let Some(name) = section.name.strip_prefix(".text.")
                && kernels.insert(name, self.code(name, section.bytes)?).is_some()
            {
                return Err(Malformed("a kernel has two codes"));
            }
        }
        let (registers, stacks) = (self.per_kernel(REGISTERS)?, self.per_kernel(STACK)?);
        for (&name, kernel) in &mut kernels {
            kernel.registers = *registers.get(name).ok_or(Malformed("a kernel has no register count"))?;
            kernel.stack = *stacks.get(name).ok_or(Malformed("a kernel has no stack size"))?;
            kernel.shared = self.shared(name)?;
            kernel.parameters = self.parameters(name)?;
            kernel.threads = self.threads(name)?;
        }
        Ok(kernels.into_values().collect())
    }

    fn find(&self, prefix: &str, name: &str) -> Option<&Section<'a>> {
        self.sections.iter().find(|section| section.name.strip_prefix(prefix) == Some(name))
    }

    /// An attribute of `.nv.info`, whose payload is a symbol and a value.
    fn per_kernel(&self, attribute: u8) -> Result<HashMap<&'a str, u32>> {
        let info = self.find(".nv.info", "").ok_or(Malformed("it has no .nv.info"))?;
        let symbols = self.find(".symtab", "").ok_or(Malformed("it has no symbols"))?;
        let names = self.sections.get(symbols.link as usize).ok_or(Malformed("its symbols have no names"))?;
        let mut values = HashMap::new();
        for payload in attributes(info.bytes, attribute)? {
            let symbol = (u32_at(payload, 0)? as usize).checked_mul(SYMBOL).ok_or(Malformed("no such symbol"))?;
            values.insert(string(names.bytes, u32_at(symbols.bytes, symbol)?)?, u32_at(payload, 4)?);
        }
        Ok(values)
    }

    fn shared(&self, name: &str) -> Result<u32> {
        let size = self.find(".nv.shared.", name).map_or(0, |section| section.size);
        let size = u32::try_from(size).map_err(|_| Malformed("shared memory beyond 4 GiB"))?;
        let (since, system) = SYSTEM_SHARED;
        Ok(if self.architecture >= since { size.saturating_sub(system) } else { size })
    }

    /// Payload of the threads of a block: along x, y and z.
    fn threads(&self, name: &str) -> Result<u32> {
        let Some(info) = self.find(".nv.info.", name) else { return Ok(0) };
        let Some(&payload) = attributes(info.bytes, THREADS)?.first() else { return Ok(0) };
        let along = |axis: usize| u32_at(payload, 4 * axis);
        Ok(along(0)?.saturating_mul(along(1)?).saturating_mul(along(2)?))
    }

    /// Payload of a parameter: which list (4 bytes), its ordinal and its offset (2 each), and from bit 18 on its size.
    fn parameters(&self, name: &str) -> Result<Vec<u32>> {
        let Some(info) = self.find(".nv.info.", name) else { return Ok(Vec::new()) };
        let mut sizes = BTreeMap::new();
        for payload in attributes(info.bytes, PARAMETER)? {
            sizes.insert(u16_at(payload, 4)?, u32_at(payload, 8)? >> 18);
        }
        if sizes.keys().zip(0..).any(|(&ordinal, i)| ordinal != i) {
            return Err(Malformed("a parameter is missing"));
        }
        Ok(sizes.into_values().collect())
    }

    /// Looks at the instructions of a kernel; the rest is filled in later.
    fn code(&self, name: &str, bytes: &[u8]) -> Result<Kernel> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(16) {
            return Err(Malformed("code is not a row of instructions"));
        }
        let words: Vec<Word> = bytes.chunks_exact(16).map(Word::read).collect();
        let mut counts = [0; Instruction::ALL.len()];
        let mut wanted = Vec::new();
        for word in &words {
            if let Some(known) = Instruction::of(word.opcode()) {
                counts[known as usize] += 1;
                if known == Usetmaxreg {
                    wanted.push(word.bits(32, 24));
                }
            }
        }
        let product = |word: &Word| matches!(Instruction::of(word.opcode()), Some(Hmma | Hgmma));
        let hopper = self.architecture == HOPPER;
        Ok(Kernel {
            name: name.into(),
            registers: 0,
            stack: 0,
            shared: 0,
            parameters: Vec::new(),
            instructions: words.len(),
            counts,
            threads: 0,
            wanted,
            in_loop: if hopper { loops::main(&words, product) } else { 0 },
            hazards: if hopper { flight::hazards(&words) } else { Vec::new() },
        })
    }
}

/// The payloads of one attribute in a list of attributes.
fn attributes(list: &[u8], wanted: u8) -> Result<Vec<&[u8]>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < list.len() {
        let [format, attribute, ..] = number::<4>(list, at)?;
        let len = if format == PAYLOAD { usize::from(u16_at(list, at + 2)?) } else { 0 };
        let payload = slice(list, at + 4, len)?;
        if format == PAYLOAD && attribute == wanted {
            found.push(payload);
        }
        at += 4 + len;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPILLING: &[u8] = include_bytes!("../../../tests/fixtures/cubins/spilling.sm_90a.cubin");
    const TENSOR: [(&str, &[u8]); 3] = [
        ("sm_80", include_bytes!("../../../tests/fixtures/cubins/tensor.sm_80.cubin")),
        ("sm_90a", include_bytes!("../../../tests/fixtures/cubins/tensor.sm_90a.cubin")),
        ("sm_120", include_bytes!("../../../tests/fixtures/cubins/tensor.sm_120.cubin")),
    ];
    const SERIALISED: &[u8] = include_bytes!("../../../tests/fixtures/cubins/serialised.sm90.sm_90a.cubin");

    fn one(bytes: &[u8]) -> Kernel {
        let mut kernels = read(bytes).expect("a cubin");
        assert_eq!(kernels.len(), 1);
        kernels.remove(0)
    }

    #[test]
    fn every_instruction_has_its_place() {
        for (i, instruction) in Instruction::ALL.into_iter().enumerate() {
            assert_eq!(instruction as usize, i, "{}", instruction.name());
        }
    }

    #[test]
    fn a_spilling_kernel_shows_its_stack() {
        let kernel = one(SPILLING);
        assert_eq!((kernel.name.as_str(), kernel.registers, kernel.stack), ("spilling", 32, 320));
        // nvdisasm's listing; the assembler reports 328 bytes of spill stores and 360 of loads, some of several words
        assert_eq!((kernel.count(Stl), kernel.count(Ldl), kernel.stack_accesses()), (73, 81, 154));
        assert_eq!(kernel.parameters, [8, 8, 4]);
    }

    #[test]
    fn a_tensor_core_kernel_shows_its_instructions() {
        // lengths of .text by readelf, registers by the assembler
        for ((architecture, bytes), instructions) in TENSOR.into_iter().zip([40, 48, 48]) {
            let kernel = one(bytes);
            let counts = [Hmma, Ldsm, Ldgsts, Hgmma, Ldl, Stl, Atomic].map(|i| kernel.count(i));
            assert_eq!(counts, [1, 1, 1, 0, 0, 0, 1], "{architecture}");
            let sizes = (kernel.registers, kernel.stack, kernel.shared, kernel.instructions);
            assert_eq!(sizes, (18, 0, 1024, instructions), "{architecture}");
        }
        let kernel = one(SERIALISED);
        assert_eq!((kernel.count(Hgmma), kernel.count(Hmma), kernel.shared), (2, 0, 0));
    }

    #[test]
    fn a_truncated_cubin_is_refused() {
        for bytes in [SPILLING, TENSOR[0].1, TENSOR[2].1, SERIALISED] {
            for len in 0..bytes.len() {
                // what is behind the section headers, in front of which lies all that is read, are program headers
                if let Ok(kernels) = read(&bytes[..len]) {
                    assert_eq!(kernels, read(bytes).unwrap(), "{len} bytes");
                }
            }
            assert!(read(&bytes[..bytes.len() / 2]).is_err());
        }
    }

    #[test]
    fn any_change_of_a_byte_is_survived() {
        let bytes = TENSOR[1].1;
        let (mut refused, mut other) = (0, 0);
        let whole = read(bytes).unwrap();
        for at in 0..bytes.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                match read(&changed) {
                    Err(_) => refused += 1,
                    Ok(kernels) => other += usize::from(kernels != whole),
                }
            }
        }
        assert!(refused > 100 && other > 100, "{refused} refused, {other} read as something else");
    }

    #[test]
    fn what_is_no_cubin_is_named() {
        let says = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        assert_eq!(says(b""), "not a whole cubin: it is no ELF64 file");
        assert_eq!(says(b"\x7fELF\x02\x01"), "not a whole cubin: it ends too early");
        let own = std::fs::read("/proc/self/exe").unwrap_or_default();
        if own.starts_with(b"\x7fELF") {
            assert_eq!(says(&own), "not a whole cubin: it is for another machine than a GPU");
        }
        // its register count taken away: a kernel of unknown cost must not pass as one of none
        let mut changed = SPILLING.to_vec();
        let attribute = [PAYLOAD, REGISTERS, 8, 0];
        let at = changed.windows(4).position(|w| w == attribute).expect("a register count");
        changed[at + 1] = 0xfe;
        assert_eq!(says(&changed), "not a whole cubin: a kernel has no register count");
    }
}
