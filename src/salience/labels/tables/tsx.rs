//! TypeScript with JSX: no casts in angle brackets; text between tags is a literal, as in JavaScript.

use super::typescript;
use crate::salience::labels::table::Table;

pub(super) const TABLE: Table =
    Table { literal: extend!(typescript::TABLE.literal, "jsx_text"), cast: &[], ..typescript::TABLE };
