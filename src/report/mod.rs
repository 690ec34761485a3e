//! Pictures from plain numbers. Knows nothing of labels, models or files: the caller names the series and writes the
//! text that comes out.

pub mod svg;
