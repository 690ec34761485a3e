//! Pictures and pages from plain strings and numbers. This module knows no labels, models or files: the caller names
//! the series and writes the resulting text.

pub mod chart;
pub mod diff;
pub mod forest;
pub mod heatmap;
pub mod html;
pub mod svg;
pub mod tensorboard;
