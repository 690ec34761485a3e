//! One decoder for every architecture: a [`Spec`](config::Spec) says what differs, `decoder` and `backward` say the
//! rest once, generic over a backend.

pub mod adapter;
pub mod backward;
pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod hub;
pub mod names;
pub mod params;
pub mod rope;
pub mod save;
pub mod workspace;
