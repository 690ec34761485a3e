//! Statistics of comparisons: results of scipy and statsmodels (`stored`), what must hold for every table
//! (`properties`), and the coverage of intervals on simulated tables (`simulation`, a minute and a half, so it is
//! ignored: `tests/interop/check_statistics.py` runs it).

mod properties;
mod simulation;
mod stored;
