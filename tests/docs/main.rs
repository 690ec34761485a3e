//! The pages of docs/ say what the program does: rows are read, keys exist, with these defaults.

mod data;
mod migration;
mod recipe;
