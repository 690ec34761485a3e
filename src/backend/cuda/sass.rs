//! Hopper's machine instructions, as far as a gate requires: the registers that each touches, and what follows it.
//!
//! An instruction has 16 bytes. Bits 0 to 11 are the opcode, 12 to 15 the predicate that guards it. Registers stand at
//! bits 16 (result), 24, 32 and 64 (operands). Bits 9 to 11 of an arithmetic opcode say what bits 32 to 63 hold: a
//! register, a constant, or an address of one. NVIDIA documents none of it. The tables were determined from listings of
//! `nvdisasm -plr` (registers read and written by each instruction) for all kernels, of NVRTC 12.9 and 13.0.
//!
//! An instruction that is not in the tables is [`Effect::Unknown`], never harmless.

/// A set of a thread's general registers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers([u128; 2]);

impl Registers {
    /// Every register.
    pub const ALL: Registers = Registers([u128::MAX; 2]);

    /// `count` registers from `first` on. 255 is RZ, which is no register.
    pub fn range((first, count): Range) -> Registers {
        let mut set = Registers::default();
        for i in (usize::from(first)..255).take(count.into()) {
            set.0[i / 128] |= 1 << (i % 128);
        }
        set
    }

    /// Those of both.
    pub fn and(self, other: Registers) -> Registers {
        Registers([self.0[0] | other.0[0], self.0[1] | other.0[1]])
    }

    /// The first register that both have.
    pub fn shared(self, other: Registers) -> Option<u32> {
        let [low, high] = [self.0[0] & other.0[0], self.0[1] & other.0[1]];
        if low > 0 { Some(low.trailing_zeros()) } else { (high > 0).then(|| 128 + high.trailing_zeros()) }
    }
}

/// The first register and how many.
pub type Range = (u8, u8);

/// What an instruction does to registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is complete, as far as registers are concerned, before the next one that depends on it.
    Plain { reads: Registers, writes: Registers },
    /// A product of a warpgroup (`wgmma`), which goes on after it: its accumulators, and its left operand unless that
    /// is in shared memory. The last product of a batch commits the batch.
    Product { sums: Range, left: Option<Range>, commits: bool },
    /// Waits until at most so many batches are under way.
    Wait(usize),
    /// Orders writes to registers before products (`wgmma.fence`).
    Fence,
    /// Not in the tables.
    Unknown,
}

/// Where execution continues. Instructions are counted from the kernel's first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next instruction.
    On,
    /// Nowhere, or behind a call.
    End,
    /// There, or at the next instruction if the branch is conditional.
    Jump { to: i64, always: bool },
    /// There, and then at the next instruction.
    Call(i64),
    /// Some branch that is not in the tables.
    Unknown,
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub struct Word(pub u128);

/// Widths in registers of the result and of the operands a, b, c of arithmetic, by the opcode's low nine bits.
const ARITHMETIC: [(u16, [u8; 4]); 41] = [
    (0x002, [1, 0, 1, 0]), // MOV
    (0x007, [1, 1, 1, 0]), // SEL
    (0x008, [1, 1, 1, 0]), // FSEL
    (0x009, [1, 1, 1, 0]), // FMNMX
    (0x00b, [0, 1, 1, 0]), // FSETP
    (0x00c, [0, 1, 1, 0]), // ISETP
    (0x010, [1, 1, 1, 1]), // IADD3
    (0x011, [1, 1, 1, 1]), // LEA
    (0x012, [1, 1, 1, 1]), // LOP3
    (0x013, [1, 0, 1, 0]), // IABS
    (0x016, [1, 1, 1, 1]), // PRMT
    (0x019, [1, 1, 1, 1]), // SHF
    (0x020, [1, 1, 1, 0]), // FMUL
    (0x021, [1, 1, 1, 0]), // FADD
    (0x023, [1, 1, 1, 1]), // FFMA
    (0x024, [1, 1, 1, 1]), // IMAD
    (0x025, [2, 1, 1, 2]), // IMAD.WIDE
    (0x027, [1, 1, 1, 2]), // IMAD.HI
    (0x028, [2, 2, 2, 0]), // DMUL
    (0x029, [2, 2, 0, 2]), // DADD
    (0x02a, [0, 2, 2, 0]), // DSETP
    (0x02b, [2, 2, 2, 2]), // DFMA
    (0x031, [1, 1, 1, 1]), // HFMA2
    (0x035, [1, 1, 1, 1]), // HFMA2.MMA
    (0x036, [1, 1, 1, 0]), // VIADD
    (0x03c, [4, 4, 2, 4]), // HMMA
    (0x03e, [1, 1, 1, 1]), // F2FP
    (0x045, [1, 0, 1, 0]), // I2FP
    (0x046, [1, 1, 1, 1]), // VIADDMNMX
    (0x048, [1, 1, 1, 0]), // VIMNMX
    (0x102, [0, 1, 1, 0]), // FCHK
    (0x105, [1, 0, 1, 0]), // F2I
    (0x106, [1, 0, 1, 0]), // I2F
    (0x107, [1, 0, 1, 0]), // FRND
    (0x108, [1, 0, 1, 0]), // MUFU
    (0x109, [1, 0, 1, 0]), // POPC
    (0x110, [2, 0, 2, 0]), // F2F, from or to f64
    (0x111, [2, 0, 2, 0]), // F2I, the same
    (0x112, [2, 0, 2, 0]), // I2F
    (0x113, [2, 0, 2, 0]), // FRND
    (0x189, [1, 1, 1, 1]), // SHFL
];

/// A width that bits 73 to 75 of the instruction give: that of a memory access.
const SIZE: u8 = 0xff;
/// A width that bits 72 and 73 give: matrices of ldmatrix.
const MATRICES: u8 = 0xfe;

/// Widths of what stands at bits 16, 24 and 32, by the whole opcode, and whether that at bit 16 is a result.
const OTHERS: [(u16, bool, [u8; 3]); 33] = [
    (0x2ca, false, [0, 1, 0]),       // R2UR
    (0x348, false, [0, 1, 0]),       // WARPSYNC
    (0x380, true, [SIZE, 2, 0]),     // LD
    (0x381, true, [SIZE, 2, 0]),     // LDG
    (0x385, false, [0, 2, SIZE]),    // ST
    (0x386, false, [0, 2, SIZE]),    // STG
    (0x387, false, [0, 1, SIZE]),    // STL
    (0x388, false, [0, 1, SIZE]),    // STS
    (0x3c6, false, [0, 0, 0]),       // FENCE
    (0x5a7, false, [0, 1, 1]),       // SYNCS, a wait
    (0x5b2, false, [0, 0, 0]),       // SYNCS of uniform registers
    (0x5b4, false, [0, 0, 0]),       // UTMALDG
    (0x803, true, [1, 1, 0]),        // P2R
    (0x804, false, [0, 1, 0]),       // R2P
    (0x805, true, [2, 0, 0]),        // CS2R
    (0x806, true, [1, 0, 0]),        // VOTE
    (0x81c, false, [0, 0, 0]),       // PLOP3
    (0x82f, false, [0, 0, 0]),       // ELECT
    (0x83b, true, [MATRICES, 1, 0]), // LDSM
    (0x886, false, [0, 0, 0]),       // VOTEU
    (0x980, true, [SIZE, 2, 0]),     // LD
    (0x981, true, [SIZE, 2, 0]),     // LDG
    (0x983, true, [SIZE, 1, 0]),     // LDL
    (0x984, true, [SIZE, 1, 0]),     // LDS
    (0x985, false, [0, 2, SIZE]),    // ST
    (0x986, false, [0, 2, SIZE]),    // STG
    (0x988, false, [0, 1, SIZE]),    // STS
    (0x9a7, true, [2, 1, 1]),        // SYNCS, an arrival
    (0x919, true, [1, 0, 0]),        // S2R
    (0x950, false, [0, 2, 0]),       // RET
    (0xb82, true, [SIZE, 1, 0]),     // LDC
    (0xf89, true, [1, 1, 0]),        // SHFL by constants
    (0xfae, false, [1, 2, 0]),       // LDGSTS
];

/// Instructions without general registers, by the whole opcode: NOP, DEPBAR, ENDCOLLECTIVE, BSYNC, BSSY, CALL, YIELD,
/// BRA, WARPSYNC.ALL, EXIT, LDGDEPBAR, S2UR, USETMAXREG, ULDC, BAR.
const WITHOUT: [u16; 15] =
    [0x918, 0x91a, 0x91b, 0x941, 0x944, 0x945, 0x946, 0x947, 0x948, 0x94d, 0x9af, 0x9c3, 0x9c8, 0xab9, 0xb1d];

/// Arithmetic of uniform registers, by the opcode's low nine bits: UMOV, USEL, UISETP, UIADD3, ULEA, ULOP3, USHF,
/// UIMAD, UIMAD.WIDE, UPOPC.
const UNIFORM: [u16; 10] = [0x082, 0x087, 0x08c, 0x090, 0x091, 0x092, 0x099, 0x0a4, 0x0a5, 0x0bf];

impl Word {
    /// Of 16 bytes; fewer end in zeros.
    pub fn read(bytes: &[u8]) -> Word {
        Word(bytes.iter().rev().fold(0, |word, &byte| word << 8 | u128::from(byte)))
    }

    /// A field of at most 31 bits.
    pub fn bits(self, at: u32, count: u32) -> u32 {
        (self.0 >> at) as u32 & ((1 << count) - 1)
    }

    fn register(self, at: u32) -> u8 {
        (self.0 >> at) as u8
    }

    /// The opcode.
    pub fn opcode(self) -> u16 {
        self.bits(0, 12) as u16
    }

    /// Whether it is executed wherever it is reached.
    pub fn always(self) -> bool {
        self.bits(12, 4) == 0b0111
    }

    /// The barrier of BSSY and BSYNC: where the latter's threads meet and go on.
    pub fn barrier(self) -> u8 {
        self.bits(16, 4) as u8
    }

    /// What it does to registers.
    pub fn effect(self) -> Effect {
        let (opcode, low) = (self.opcode(), self.opcode() & 0x1ff);
        match opcode {
            0x9f0 | 0xdf0 => return self.product(),
            0x9c5 => return self.warpgroup(),
            _ => {}
        }
        let (mut reads, mut writes) = (Registers::default(), Registers::default());
        let mut add = |result: bool, at: u32, width: u8| {
            let set = if result { &mut writes } else { &mut reads };
            *set = set.and(Registers::range((self.register(at), width)));
        };
        if let Some((_, result, widths)) = OTHERS.into_iter().find(|known| known.0 == opcode) {
            for (i, (width, at)) in widths.into_iter().zip([16, 24, 32]).enumerate() {
                let width = match width {
                    // bytes, words of two bytes, four, eight, sixteen
                    SIZE => 1 << self.bits(73, 3).saturating_sub(4),
                    MATRICES => 1 << self.bits(72, 2),
                    width => width,
                };
                add(result && i == 0, at, width);
            }
        } else if let Some((_, [d, a, b, c])) = ARITHMETIC.into_iter().find(|known| known.0 == low) {
            add(true, 16, d);
            add(false, 24, a);
            match opcode >> 9 {
                1 => {
                    add(false, 32, b);
                    add(false, 64, c);
                }
                4..=6 => add(false, 64, c),
                // c is the constant, if there is a c at all
                2 | 3 | 7 if c > 0 => add(false, 64, b),
                2 | 3 | 7 => {}
                _ => return Effect::Unknown,
            }
        } else if !WITHOUT.contains(&opcode) && !UNIFORM.contains(&low) {
            return Effect::Unknown;
        }
        Effect::Plain { reads, writes }
    }

    /// HGMMA: sums at bit 16, added to those at bit 64 (RZ: to none), the left operand at bit 24 with opcode 0xdf0.
    /// Bits 53 to 57 are columns / 8 - 1; bits 84 to 86 the counter of batches, 7 for none.
    fn product(self) -> Effect {
        let (sums, columns, added, counter) =
            (self.register(16), self.bits(53, 5), self.register(64), self.bits(84, 3));
        if (added != sums && added != 255) || (counter != 0 && counter != 7) || self.bits(58, 4) != 0 {
            return Effect::Unknown;
        }
        let left = (self.opcode() == 0xdf0).then(|| (self.register(24), 4));
        Effect::Product { sums: (sums, (columns + 1) as u8 * 4), left, commits: counter == 0 }
    }

    /// WARPGROUP: a fence, or a wait for all but as many batches as bits 72 to 79 say.
    fn warpgroup(self) -> Effect {
        match (self.bits(32, 31), self.bits(80, 4), self.bits(72, 8)) {
            (0, 0, 0) => Effect::Fence,
            (0x8000, 1, batches) => Effect::Wait(batches as usize),
            _ => Effect::Unknown,
        }
    }

    /// What follows it, if it is instruction `at`. A distance counts from the next instruction, in units of four bytes:
    /// its low byte stands at bit 16, the rest, signed, at bits 34 to 81.
    pub fn next(self, at: usize) -> Next {
        let distance = ((self.0 >> 34) as i64) << 16 >> 16;
        let near = |low: u32| at as i64 + 1 + ((distance << 8 | i64::from(low)) >> 2);
        match self.opcode() {
            0x947 => {
                // neither of a uniform predicate, nor with a second predicate
                let plain = self.always() && self.bits(32, 2) == 0 && self.bits(84, 3) == 0 && self.bits(87, 4) == 7;
                Next::Jump { to: near(self.bits(16, 8)), always: plain }
            }
            0x348 => Next::Jump { to: near(self.bits(16, 8)), always: false },
            0x944 => Next::Call(near(self.bits(16, 8))),
            0x94d | 0x950 => Next::End,
            0x941 | 0x945 | 0x946 | 0x948 => Next::On,
            other if (0x140..0x160).contains(&(other & 0x1ff)) => Next::Unknown,
            _ => Next::On,
        }
    }

    /// Where threads meet that wait at the barrier which a BSSY opens, if this is one.
    pub fn meeting(self, at: usize) -> Option<i64> {
        (self.opcode() == 0x945).then(|| at as i64 + 1 + (((self.0 >> 34) as i64) << 16 >> 16 >> 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[Range]) -> Registers {
        list.iter().fold(Registers::default(), |all, &range| all.and(Registers::range(range)))
    }

    /// Instructions of kernels with the registers that `nvdisasm -plr` shows as read and as written.
    #[test]
    fn registers_are_those_of_the_listing() {
        let cases: &[(u64, u64, &[Range], &[Range])] = &[
            // FFMA R184, R184, R15, -R20; FFMA.SAT R41, R38, R33, 0.5; FFMA R20, R17, UR8, R20
            (0x0000_000f_b8b8_b223, 0x004f_e200_0000_0814, &[(184, 1), (15, 1), (20, 1)], &[(184, 1)]),
            (0x3f00_0000_2629_7423, 0x000f_e200_0000_2021, &[(38, 1), (33, 1)], &[(41, 1)]),
            (0x0000_0008_1114_7c23, 0x000f_e200_0800_0014, &[(17, 1), (20, 1)], &[(20, 1)]),
            // FADD R5, R5, R16; FADD R14, R6, -UR4; DADD R14, R14, -R12
            (0x0000_0010_0505_7221, 0x000f_e400_0000_0000, &[(5, 1), (16, 1)], &[(5, 1)]),
            (0x8000_0004_060e_7e21, 0x004f_c800_0000_0000, &[(6, 1)], &[(14, 1)]),
            (0x0000_0000_0e12_7229, 0x000f_e200_0000_080c, &[(14, 2), (12, 2)], &[(18, 2)]),
            // IMAD.WIDE.U32 R6, R9, R0, R6; IMAD.WIDE.U32 R2, R5, R8, UR4
            (0x0000_0000_0906_c225, 0x000f_ca00_078e_0006, &[(9, 1), (0, 1), (6, 2)], &[(6, 2)]),
            (0x0000_0004_0502_7e25, 0x000f_e200_0f8e_0008, &[(5, 1), (8, 1)], &[(2, 2)]),
            // HMMA.16816.F32.BF16 R204, R176, R168, R204; LDSM.16.M88.4 R156, [R17+0x2000]; LDS.128 R4, [UR10]
            (0x0000_00a8_b0cc_723c, 0x060f_ec00_0004_18cc, &[(176, 4), (168, 2), (204, 4)], &[(204, 4)]),
            (0x0020_0000_119c_783b, 0x0000_a200_0000_0200, &[(17, 1)], &[(156, 4)]),
            (0x0000_000a_ff04_7984, 0x000e_2200_0800_0c00, &[], &[(4, 4)]),
            // LDG.E R11, desc[UR16][R8.64+0x80]; ST.E desc[UR10][R14.64], R9; STS.64 [R5], R6; CS2R R14, SRZ
            (0x0000_8010_080b_9981, 0x000f_6200_0c1e_1900, &[(8, 2)], &[(11, 1)]),
            (0x0000_0009_0e00_7985, 0x000f_e600_0c10_190a, &[(14, 2), (9, 1)], &[]),
            (0x0000_0006_0500_7388, 0x0203_e200_0000_0a00, &[(5, 1), (6, 2)], &[]),
            (0x0000_0000_000e_7805, 0x000f_e400_0001_ff00, &[], &[(14, 2)]),
            // MOV R21, RZ; SHFL.BFLY PT, R11, R33, 0x10, 0x1f; SYNCS.PHASECHK.TRANS64.TRYWAIT P2, [R7+URZ+0x20800], R12
            (0x0000_00ff_0015_7202, 0x000f_c400_0000_0f00, &[], &[(21, 1)]),
            (0x0e00_1f00_210b_7f89, 0x000e_2400_000e_0000, &[(33, 1)], &[(11, 1)]),
            (0x0208_000c_0700_75a7, 0x000e_2200_0804_017f, &[(7, 1), (12, 1)], &[]),
        ];
        for &(low, high, reads, writes) in cases {
            let word = Word(u128::from(high) << 64 | u128::from(low));
            let expected = Effect::Plain { reads: ranges(reads), writes: ranges(writes) };
            assert_eq!(word.effect(), expected, "{low:016x}");
        }
    }

    #[test]
    fn products_waits_and_branches_are_those_of_the_listing() {
        let word = |low: u64, high: u64| Word(u128::from(high) << 64 | u128::from(low));
        // HGMMA.64x128x16.F32.BF16 R24, R184, gdesc[UR12].tnspB, R24
        let product = Effect::Product { sums: (24, 64), left: Some((184, 4)), commits: false };
        assert_eq!(word(0x41e0_000c_b818_7df0, 0x000f_e200_0870_1818).effect(), product);
        // HGMMA.64x64x16.F32.BF16 R184, gdesc[UR12], R184, gsb0
        let product = Effect::Product { sums: (184, 32), left: None, commits: true };
        assert_eq!(word(0x00e0_000c_0cb8_79f0, 0x000f_e200_0800_18b8).effect(), product);
        // WARPGROUP.DEPBAR.LE gsb0, 0x2; WARPGROUP.ARRIVE; a made-up opcode
        assert_eq!(word(0x8000_0000_79c5, 0x000f_c400_0001_0200).effect(), Effect::Wait(2));
        assert_eq!(word(0x79c5, 0x000f_e200_0000_0000).effect(), Effect::Fence);
        assert_eq!(word(0x7fff, 0).effect(), Effect::Unknown);
        // at 0x250: @!P0 BRA 0x120; at 0x2f0: BRA 0x2f0; at 0x30: BSSY B0, 0x1e0
        assert_eq!(
            word(0xffff_fffc_00b0_8947, 0x000f_ea00_0383_ffff).next(0x25),
            Next::Jump { to: 0x12, always: false }
        );
        assert_eq!(
            word(0xffff_fffc_00fc_7947, 0x000f_c000_0383_ffff).next(0x2f),
            Next::Jump { to: 0x2f, always: true }
        );
        assert_eq!(word(0x0000_01a0_0000_7945, 0x000f_e200_0380_0000).meeting(3), Some(0x1e));
        // BRX, whose targets are in a register
        assert_eq!(word(0x7949, 0).next(0), Next::Unknown);
    }
}
