//! TensorBoard event files: plain numbers in, a file out.
//!
//! A file is a sequence of TFRecords. A record is the length of its data (u64), the masked CRC of those 8 bytes (u32),
//! the data, and their masked CRC (u32), all little-endian. The CRC is CRC-32C; the mask is a rotation and a sum, so
//! that the CRC of data that contain CRCs remains useful (tensorflow/tsl/lib/io/record_writer.h and lib/hash/crc32c.h).
//!
//! The data is a protocol buffers message `Event` (tensorboard/compat/proto/event.proto and related files), of which
//! these fields are written:
//!
//! | message | fields |
//! |---|---|
//! | `Event` | 1 `wall_time` double, 2 `step` int64, 3 `file_version` string, 5 `summary`, 7 `session_log` |
//! | `Summary` | 1 `value`, repeated |
//! | `Summary.Value` | 1 `tag` string, 2 `simple_value` float, 8 `tensor`, 9 `metadata` |
//! | `SummaryMetadata` | 1 `plugin_data`, in which 1 `plugin_name` string |
//! | `TensorProto` | 1 `dtype` (7: string), 2 `tensor_shape`, in which 2 `dim`, in which 1 `size`; 8 `string_val` |
//! | `SessionLog` | 1 `status` (1: start) |
//!
//! The writer knows nothing about training: the caller supplies tags, values and times.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// An event file, written record by record; each record is in the file when its call returns.
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a file with its version and a session start. Readers that followed an earlier file in the folder then
    /// drop its values from step 0 on. `time` is in seconds since 1970.
    pub fn create(path: &Path, time: f64) -> Result<EventFile> {
        let file = File::create(path).map_err(Error::io(path, "create"))?;
        let mut events = EventFile { path: path.into(), file };
        events.event(time, 0, Message::default().text(3, "brain.Event:2"))?;
        events.event(time, 0, Message::default().message(7, &Message::default().int(1, 1)))?;
        Ok(events)
    }

    /// Scalars of a step, each with its tag; TensorBoard keeps 32 bits of each.
    pub fn scalars<'a>(&mut self, time: f64, step: u64, values: impl Iterator<Item = (&'a str, f64)>) -> Result {
        let value = |(tag, value)| Message::default().text(1, tag).float(2, value as f32);
        let summary = values.map(value).fold(Message::default(), |summary, value| summary.message(1, &value));
        self.event(time, step, Message::default().message(5, &summary))
    }

    /// A text, shown as Markdown.
    pub fn text(&mut self, time: f64, tag: &str, text: &str) -> Result {
        let shape = Message::default().message(2, &Message::default().int(1, 1));
        let tensor = Message::default().int(1, 7).message(2, &shape).text(8, text);
        let plugin = Message::default().text(1, "text");
        let metadata = Message::default().message(1, &plugin);
        let value = Message::default().text(1, tag).message(8, &tensor).message(9, &metadata);
        self.event(time, 0, Message::default().message(5, &Message::default().message(1, &value)))
    }

    fn event(&mut self, time: f64, step: u64, what: Message) -> Result {
        let event = Message::default().double(1, time).int(2, step).0;
        let bytes = record(&[event, what.0].concat());
        self.file.write_all(&bytes).map_err(Error::io(&self.path, "write"))
    }
}

/// A protocol buffers message, field by field. A field is its number and wire type, followed by its value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn int(mut self, field: u64, value: u64) -> Message {
        self.varint(field << 3);
        self.varint(value);
        self
    }

    fn double(mut self, field: u64, value: f64) -> Message {
        self.varint(field << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Message {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Message {
        self.bytes(field, value.as_bytes())
    }

    fn message(self, field: u64, value: &Message) -> Message {
        self.bytes(field, &value.0)
    }

    fn float(mut self, field: u64, value: f32) -> Message {
        self.varint(field << 3 | 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}

/// The bytes of a TFRecord.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

fn masked(data: &[u8]) -> [u8; 4] {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// CRC-32C (Castagnoli): the polynomial 0x1edc6f41, bits reflected.
fn crc32c(data: &[u8]) -> u32 {
    let bit = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !data.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), bit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crcs_are_those_of_rfc_3720() {
        // appendix B.4, and the check value of the catalogue of CRCs
        let up: Vec<u8> = (0..32).collect();
        let down: Vec<u8> = (0..32).rev().collect();
        for (data, crc) in [
            (&[0; 32][..], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&up, 0x46dd_794e),
            (&down, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ] {
            assert_eq!(crc32c(data), crc, "{data:?}");
        }
    }

    #[test]
    fn records_are_framed_byte_by_byte() {
        // every byte by hand, from the tables of field numbers above and of wire types
        let path = tempfile::tempdir().expect("a folder");
        let file = path.path().join("events");
        let mut events = EventFile::create(&file, 0.0).expect("creates");
        events.scalars(1.5, 300, [("train/loss", 0.25)].into_iter()).expect("writes");
        let bytes = std::fs::read(&file).expect("reads");
        let mut at = 0;
        let mut records = Vec::new();
        while at < bytes.len() {
            let length = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8")) as usize;
            assert_eq!(bytes[at + 8..at + 12], masked(&bytes[at..at + 8]), "CRC of the length");
            let data = &bytes[at + 12..at + 12 + length];
            assert_eq!(bytes[at + 12 + length..at + 16 + length], masked(data), "CRC of the data");
            records.push(data);
            at += 16 + length;
        }
        assert_eq!(records.len(), 3);
        assert_eq!(records[0], b"\x09\0\0\0\0\0\0\0\0\x10\0\x1a\x0dbrain.Event:2");
        assert_eq!(records[1], b"\x09\0\0\0\0\0\0\0\0\x10\0\x3a\x02\x08\x01");
        // time 1.5, step 300 in two groups of 7 bits, summary of 19 bytes with a value of 17, 0.25 as 0x3e800000
        let mut wanted = b"\x09\0\0\0\0\0\0\xf8\x3f\x10\xac\x02\x2a\x13\x0a\x11".to_vec();
        wanted.extend(b"\x0a\x0atrain/loss\x15\0\0\x80\x3e");
        assert_eq!(records[2], wanted);
    }

    #[test]
    fn a_crc_is_masked() {
        // 0xe3069283 rotated right by 15 bits is 0x2507c60d; plus 0xa282ead8
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5_u32.to_le_bytes());
    }
}
