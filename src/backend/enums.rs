//! Enumerators of kernels/enums.cuh, read when the crate is compiled, so that Rust and the kernels cannot differ.

const HEADER: &[u8] = include_bytes!("../../kernels/enums.cuh");

/// The value of an enumerator, which is its place in its enum. For constants: a name that the header lacks does not
/// compile.
pub(super) const fn enumerator(name: &str) -> usize {
    let name = name.as_bytes();
    let (mut at, mut inside, mut value) = (0, false, 0);
    while at < HEADER.len() {
        let start = at;
        while HEADER[at].is_ascii_alphanumeric() || HEADER[at] == b'_' {
            at += 1;
        }
        if inside && equal(HEADER.split_at(start).1.split_at(at - start).0, name) {
            return value;
        }
        match HEADER[at] {
            b'/' => {
                while HEADER[at] != b'\n' {
                    at += 1;
                }
            }
            b'{' => (inside, value) = (true, 0),
            b'}' => inside = false,
            b',' => value += 1,
            b'=' => panic!("kernels/enums.cuh: an enumerator has no value of its own"),
            _ => {}
        }
        at += 1;
    }
    panic!("kernels/enums.cuh: no such enumerator")
}

const fn equal(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::enumerator;

    #[test]
    fn values_are_places_in_the_enum() {
        let names = ["LR", "BIAS1", "CLIP", "SCALARS", "WEIGHTED", "TALLY", "GELU_ERF"];
        assert_eq!(names.map(enumerator), [0, 1, 7, 8, 0, 7, 2]);
    }

    #[test]
    #[should_panic(expected = "no such enumerator")]
    fn an_unknown_name_is_refused() {
        enumerator("Scalar");
    }
}
