//! One decoder for every architecture: a [`Spec`](config::Spec) says what differs, `decoder` and `backward` say the
//! rest once, generic over a backend.

pub mod adapter;
pub mod attention;
pub mod backward;
pub mod checkpoint;
pub mod config;
pub mod decode;
pub mod decoder;
mod defaults;
pub mod ends;
pub mod files;
pub mod flops;
pub mod forward;
pub mod generate;
pub mod hub;
pub mod keys;
pub mod merge;
pub mod names;
pub mod params;
pub mod peft;
pub mod quantized;
pub mod rope;
pub mod sample;
pub mod save;
pub mod save_nf4;
pub mod state;
pub mod workspace;
