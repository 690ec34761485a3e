//! A command line as words.

/// Splits a command into words as a POSIX shell does: at spaces, with quotes and backslashes, but without expansions,
/// pipes and redirections. Errors with the reason.
pub(super) fn split(command: &str) -> Result<Vec<String>, &'static str> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut rest = command.chars();
    while let Some(c) = rest.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a single quote is not closed")? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match rest.next().ok_or("a double quote is not closed")? {
                        '"' => break,
                        '\\' => match rest.next().ok_or("a double quote is not closed")? {
                            '\n' => {}
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match rest.next().ok_or("nothing follows the last backslash")? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of Python's `shlex.split`, and of sh where that keeps a line's end.
    #[test]
    fn words_are_those_of_a_shell() {
        for (command, words) in [
            ("", &[][..]),
            (" a  b\tc\n", &["a", "b", "c"]),
            (r#"a 'b c' "d e"f"#, &["a", "b c", "d ef"]),
            (r#"'' "" a''b"#, &["", "", "ab"]),
            (r#"a\ b \'c\" '\d' "\d\"\\\$""#, &["a b", "'c\"", r"\d", r#"\d"\$"#]),
            ("a\\\nb", &["ab"]),
            ("x='é {}'", &["x=é {}"]),
        ] {
            assert_eq!(split(command).unwrap(), words, "{command}");
        }
        assert_eq!(split("a 'b"), Err("a single quote is not closed"));
        assert_eq!(split(r#"a "b\""#), Err("a double quote is not closed"));
        assert_eq!(split(r"a\"), Err("nothing follows the last backslash"));
    }
}
