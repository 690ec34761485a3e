//! Pictures and pages for people, from plain strings and numbers. Knows nothing of labels, models or files: the caller
//! names the series and writes the text that comes out.

pub mod chart;
pub mod html;
pub mod svg;
pub mod tensorboard;
