//! C++: C with classes, templates and exceptions. A namespace is Java's package, `public:` a modifier, a lambda's
//! capture list a parameter list.

use super::c;
use crate::salience::labels::table::Table;

pub(super) const TABLE: Table = Table {
    atom: extend!(c::TABLE.atom, "raw_string_literal", "auto"),
    literal: extend!(c::TABLE.literal, "raw_string_literal", "user_defined_literal"),
    operator: &["new", "delete", "sizeof", "alignof", "co_await", "and", "or", "not"],
    dropped: extend!(c::TABLE.dropped, "field_initializer_list > :", "field_declaration_list > :"),

    headed: extend!(
        c::TABLE.headed,
        "translation_unit > class_specifier",
        "preproc_ifdef > class_specifier",
        "declaration_list > struct_specifier",
        "declaration_list > union_specifier",
        "declaration_list > enum_specifier",
        "declaration_list > class_specifier",
        "template_declaration > struct_specifier",
        "template_declaration > class_specifier"
    ),
    body: extend!(c::TABLE.body, "function_definition > field_initializer_list", "class_specifier.body"),
    result: &["function_definition.type", "declaration.type", "field_declaration.type"],
    composite: &["template_type", "qualified_identifier"],
    prototype: extend!(c::TABLE.prototype, "field_declaration"),
    head_word: &["access_specifier", "template_declaration > template", "friend_declaration"],

    parameter: &[
        "parameter_list",
        "template_parameter_list",
        "lambda_capture_specifier",
        "preproc_params",
        "requires_clause",
    ],
    returns: extend!(c::TABLE.returns, "co_return_statement", "co_yield_statement"),
    exception: &["throw_statement", "throw_specifier", "try_statement > try", "catch_clause > catch"],
    condition: extend!(c::TABLE.condition, "if_statement > constexpr"),
    looped: extend!(c::TABLE.looped, "for_range_loop"),
    declaration: extend!(c::TABLE.declaration, "alias_declaration"),
    argument: extend!(c::TABLE.argument, "template_argument_list"),
    index: &["subscript_argument_list"],
    external: extend!(
        c::TABLE.external,
        "using_declaration",
        "base_class_clause",
        "namespace_definition > inline",
        "namespace_definition > namespace",
        "namespace_definition.name",
        "namespace_alias_definition"
    ),

    declares: extend!(
        c::TABLE.declares,
        "reference_declarator > identifier",
        "structured_binding_declarator > identifier",
        "optional_parameter_declaration.declarator",
        "for_range_loop.declarator"
    ),
    callee_in: extend!(
        c::TABLE.callee_in,
        "qualified_identifier.name",
        "template_function.name",
        "template_method.name"
    ),
    through: &["qualified_identifier.name"],

    ..c::TABLE
};
