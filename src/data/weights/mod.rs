//! Loss weights of subwords: given by the row, recorded in it, or drawn from scan paths.

pub mod drawn;
pub(crate) mod given;
pub(crate) mod recorded;
