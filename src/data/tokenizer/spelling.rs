//! Bytes as vocabularies spell them.

/// The byte that a token such as `<0xE6>` stands for.
pub(super) fn lone_byte(token: &str) -> Option<u8> {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())
}

/// The byte that a character of GPT-2's alphabet stands for: itself where it prints in Latin-1; the others follow from
/// U+0100 on, in order.
pub(super) fn spelled_byte(c: char) -> Option<u8> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match u32::from(c) {
        code @ 0..=0xFF => u8::try_from(code).ok().filter(prints),
        code => (0..=u8::MAX).filter(|byte| !prints(byte)).nth(usize::try_from(code - 0x100).ok()?),
    }
}
