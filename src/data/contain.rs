//! Panics of a library, turned into errors.
//!
//! The one place that catches panics, for the crate `tokenizers`: it unwraps in some hundred places what a
//! tokenizer.json says, on reading it and on every text, so that no check in front could name all that it cannot do.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether this thread's panics are someone's result, and not to be printed.
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// What `f` gives, or the message of its panic. `f` must leave behind nothing that it was in the middle of changing.
pub(super) fn contained<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = take_hook();
        set_hook(Box::new(move |panic| {
            if !CONTAINED.get() {
                print(panic);
            }
        }));
    });
    let outer = CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CONTAINED.set(outer);
    result.map_err(|panic| format!("the library gave up: {}", message(&*panic)))
}

/// The first line of it, which is all that says something.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next()).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_next_call_is_none() {
        let none = |text: &str| text.parse::<u8>().unwrap();
        assert_eq!(contained(|| none("x")).unwrap_err().lines().count(), 1);
        assert_eq!(contained(|| panic!("at {}\nand more", 3)), Err::<(), _>("the library gave up: at 3".into()));
        assert_eq!((contained(|| 2), CONTAINED.get()), (Ok(2), false));
    }
}
