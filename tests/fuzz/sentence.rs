//! What must hold of every refusal.

use eyekern::error::Error;

/// It names the place, says something about it, and ends the command with `code`.
pub fn check(refusal: &Error, place: &str, code: u8) {
    let text = refusal.to_string();
    assert!(text.contains(place), "{text:?} does not name {place}");
    assert!(text.len() > place.len() + 12, "{text:?} is no sentence");
    assert_eq!(refusal.exit_code(), code, "{text:?}");
}
