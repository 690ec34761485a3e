//! Loss weights of subwords: given by the row, or drawn from scan paths.

pub mod drawn;
pub(crate) mod given;
