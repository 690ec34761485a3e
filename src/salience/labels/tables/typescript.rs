//! TypeScript: JavaScript with types. The `:` before a type is punctuation; a type alias declares like a variable; a
//! namespace is Java's package.

use super::javascript;
use crate::salience::labels::table::Table;

pub(super) const TABLE: Table = Table {
    literal: &["string", "template_string", "regex", "number", "true", "false", "null", "undefined"],
    operator: extend!(javascript::TABLE.operator, "as", "satisfies", "keyof", "is"),
    dropped: &["?.", "pair > :", "pair_pattern > :", "type_annotation > :"],
    dimensions: &["array_type"],

    unit: extend!(javascript::TABLE.unit, "function_signature", "method_signature", "abstract_method_signature"),
    headed: extend!(
        javascript::TABLE.headed,
        "abstract_class_declaration",
        "interface_declaration",
        "enum_declaration"
    ),
    body: extend!(
        javascript::TABLE.body,
        "abstract_class_declaration.body",
        "interface_declaration.body",
        "enum_declaration.body"
    ),
    result: &[
        "function_declaration.return_type",
        "generator_function_declaration.return_type",
        "method_definition.return_type",
        "function_signature.return_type",
        "method_signature.return_type",
        "abstract_method_signature.return_type",
    ],
    composite: &["generic_type", "array_type", "nested_type_identifier"],
    type_parameters: &["type_parameters"],
    head_word: extend!(javascript::TABLE.head_word, "ambient_declaration > declare"),

    parameter: extend!(javascript::TABLE.parameter, "type_parameters"),
    declaration: &[
        "lexical_declaration",
        "variable_declaration",
        "public_field_definition",
        "property_signature",
        "index_signature",
        "enum_body.name",
        "enum_assignment",
        "type_alias_declaration",
    ],
    argument: extend!(javascript::TABLE.argument, "type_arguments"),
    external: extend!(
        javascript::TABLE.external,
        "import_alias",
        "extends_type_clause",
        "internal_module > namespace",
        "internal_module.name",
        "module > module",
        "module.name",
        "ambient_declaration > global"
    ),

    declares: &[
        "variable_declarator.name",
        "required_parameter.pattern",
        "optional_parameter.pattern",
        "arrow_function.parameter",
        "catch_clause.parameter",
        "array_pattern > identifier",
        "shorthand_property_identifier_pattern",
        "pair_pattern.value",
        "assignment_pattern.left",
        "object_assignment_pattern.left",
        "rest_pattern > identifier",
        "for_in_statement.left",
    ],
    through: &["type_annotation > *"],
    plain: &["type_annotation > :"],

    cast: &["type_assertion > type_arguments"],

    ..javascript::TABLE
};
