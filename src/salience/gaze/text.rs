//! The text of a recording's file, plain or gzipped, and how it is told in messages.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use crate::error::{Error, Result};

/// A row longer than this, in bytes, is no row: a quote that is never closed, or a file that is no text.
pub const LONGEST_ROW: usize = 1 << 20;

/// The text of a file, unpacked if it is gzipped.
pub fn open(file: &Path) -> Result<Box<dyn BufRead>> {
    let mut bytes = BufReader::new(File::open(file).map_err(Error::io(file, "read"))?);
    let gz = bytes.fill_buf().map_err(Error::io(file, "read"))?.starts_with(&[0x1f, 0x8b]);
    let mut text: Box<dyn BufRead> =
        if gz { Box::new(BufReader::new(MultiGzDecoder::new(bytes))) } else { Box::new(bytes) };
    let start = text.fill_buf().map_err(|e| broken(file, &e))?;
    if is_utf_16(start) {
        return Err(Error::file(file, "is UTF-16 text; export or save it as UTF-8"));
    }
    Ok(text)
}

/// Whether text begins as UTF-16: with its mark, or with a zero in one half of its first unit.
pub fn is_utf_16(text: &[u8]) -> bool {
    match text {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [a, b, ..] => (*a == 0) != (*b == 0),
        _ => false,
    }
}

/// A failure while reading the text: of the gzip stream or of the system.
pub fn broken(file: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Error::file(file, error.to_string()),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Error::file(file, format!("the gzip stream is damaged or cut short ({error}); copy or compress it again"))
        }
        kind => Error::io(file, "read")(kind.into()),
    }
}

/// At most 40 characters of a text, for a message.
pub fn clip(text: &str) -> String {
    if text.chars().count() <= 40 { text.into() } else { text.chars().take(37).chain("...".chars()).collect() }
}
