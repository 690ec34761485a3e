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

#[cfg(test)]
mod tests {
    use super::Choice;

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
}
