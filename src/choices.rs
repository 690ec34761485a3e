//! Closed sets of names: strings in a recipe, enums in code.

/// A closed set of names.
pub trait Choice: Copy + 'static {
    /// Every member, in the order in which messages list them.
    const ALL: &'static [Self];

    /// The name as recipes, messages and files write it.
    fn name(self) -> &'static str;

    /// Its meaning, in a sentence or two; empty if the name is clear.
    fn doc(self) -> &'static str {
        ""
    }

    /// The member with this name.
    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|choice| choice.name() == name)
    }

    /// All names, for messages.
    fn names() -> String {
        Self::ALL.iter().map(|choice| choice.name()).collect::<Vec<_>>().join(", ")
    }
}

/// Declares a closed set of names: `choices! { /// doc Name { /// doc Variant = "name", ... } }`. The first is the
/// default.
macro_rules! choices {
    ($(#[doc = $about:literal])* $Name:ident {
        $(#[doc = $doc0:literal])+ $Variant0:ident = $name0:literal,
        $($(#[doc = $doc:literal])+ $Variant:ident = $name:literal,)*
    }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $Name {
            #[default]
            $(#[doc = $doc0])+ #[serde(rename = $name0)] $Variant0,
            $($(#[doc = $doc])+ #[serde(rename = $name)] $Variant,)*
        }

        impl $crate::choices::Choice for $Name {
            const ALL: &'static [Self] = &[Self::$Variant0, $(Self::$Variant),*];

            fn name(self) -> &'static str {
                match self { Self::$Variant0 => $name0, $(Self::$Variant => $name,)* }
            }

            fn doc(self) -> &'static str {
                match self {
                    Self::$Variant0 => concat!($($doc0),+).trim(),
                    $(Self::$Variant => concat!($($doc),+).trim(),)*
                }
            }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::choices::Choice::name(*self))
            }
        }
    };
}

pub(crate) use choices;

/// The name that `typed` was most likely meant to be; `None` where none is near.
pub(crate) fn nearest<'a>(typed: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    names.into_iter().min_by_key(|name| distance(typed, name)).filter(|name| near(typed, name))
}

/// Whether the two could be one name with slips: at most half of the letters differ.
pub(crate) fn near(typed: &str, name: &str) -> bool {
    distance(typed, name) <= (typed.chars().count() / 2).max(1)
}

/// Edits between two names: insertions, deletions, replacements and swaps of neighbours.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    // nobody mistypes a key by more than this, and the work grows with the length
    const LONGEST: usize = 100;
    let start = |name: &str| name.chars().take(LONGEST).collect::<String>();
    strsim::osa_distance(&start(a), &start(b))
}

#[cfg(test)]
mod tests {
    use super::{Choice, distance, nearest};

    choices! {
        /// Two.
        Pair {
            /// The first.
            First = "first-one",
            /// The other.
            Second = "second",
        }
    }

    #[test]
    fn names_go_both_ways() {
        for &member in Pair::ALL {
            assert_eq!(Pair::from_name(&member.to_string()), Some(member));
        }
        assert_eq!((Pair::ALL.len(), Pair::default(), Pair::from_name("First")), (2, Pair::First, None));
        assert_eq!((Pair::First.doc(), Pair::Second.doc()), ("The first.", "The other."));
        assert_eq!(serde_json::to_string(&Pair::First).unwrap(), "\"first-one\"");
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, d) in [("", "", 0), ("", "ab", 2), ("train", "trian", 1), ("kitten", "sitting", 3), ("é", "e", 1)] {
            assert_eq!((distance(a, b), distance(b, a)), (d, d), "{a} {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["bleu", "rouge1", "chrf"];
        assert_eq!(
            ["blue", "rouge", "chrF++", "perplexity"].map(|typed| nearest(typed, names)),
            [Some("bleu"), Some("rouge1"), Some("chrf"), None]
        );
    }
}
