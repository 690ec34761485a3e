//! The pages of docs/ agree with the program: rows are read, keys exist, with these defaults. The sources keep to the
//! rules of the house ([`layout`]).

mod data;
mod eyemulator;
mod layout;
mod migration;
mod recipe;
