//! How one key's value is read from TOML, checked and written back, and the macro that declares sections, so that a
//! key's name, type, default, range and doc line are written once.

use std::path::{Path, PathBuf};

use crate::choices::Choice;

/// A type that a recipe key can have.
pub(super) trait Value: Sized {
    /// What is accepted, as it reads after "expected".
    fn kind() -> String;
    /// Names that are accepted, each with what it stands for; empty where there is no such list.
    fn choices() -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
    /// The value, or `None` where the TOML value has another type.
    fn read(value: &toml::Value) -> Option<Self>;
    /// The TOML value; `None` where the key is unset.
    fn write(&self) -> Option<toml::Value>;
    /// The number that a [`Range`] is held against.
    fn number(&self) -> Option<f64> {
        None
    }
    /// Replaces every path that is not empty.
    fn map_paths(&mut self, _f: &dyn Fn(&Path) -> PathBuf) {}
}

/// The upper end of ranges of counts, which have no other.
pub(super) const MOST: f64 = u32::MAX as f64;

/// Which values of its type a key accepts.
pub(super) enum Range {
    Any,
    AtLeast(f64),
    Above(f64),
    /// From the first up to and including the second.
    Within(f64, f64),
    /// From the first up to but not including the second.
    Below(f64, f64),
}

impl Range {
    /// Whether the value lies in the range. Values that are unset always do.
    pub(super) fn holds<V: Value>(&self, value: &V) -> bool {
        let number = |ok: &dyn Fn(f64) -> bool| value.number().is_none_or(|n| n.is_finite() && ok(n));
        match *self {
            Range::Any => number(&|_| true),
            Range::AtLeast(low) => number(&|n| n >= low),
            Range::Above(low) => number(&|n| n > low),
            Range::Within(low, high) => number(&|n| low <= n && n <= high),
            Range::Below(low, high) => number(&|n| low <= n && n < high),
        }
    }

    /// What a key of type `V` with this range accepts.
    pub(super) fn accepts<V: Value>(&self) -> String {
        let kind = V::kind();
        match self {
            Range::Any => kind,
            Range::AtLeast(low) => format!("{kind}, at least {low}"),
            Range::Above(low) => format!("{kind} above {low}"),
            Range::Within(low, high) => format!("{kind} from {low} to {high}"),
            Range::Below(low, high) => format!("{kind}, at least {low} and below {high}"),
        }
    }
}

/// What a key decides, and what a checkpoint therefore records of it: a resume reports what is not as it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The bits of a step: its value is recorded.
    Bits,
    /// A file that is read: its content is recorded, not its place.
    File,
    /// Where a run ends, what it writes and how fast it is, but not the bits of a step: nothing is recorded. (The end
    /// of a run bends the schedule of the learning rate; that is what its user asks for.)
    Free,
}

impl<C: Choice> Value for C {
    fn kind() -> String {
        format!("one of {}", C::names())
    }
    fn choices() -> Vec<(&'static str, &'static str)> {
        C::ALL.iter().map(|choice| (choice.name(), choice.doc())).collect()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        C::from_name(value.as_str()?)
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.name().into()))
    }
}

impl Value for bool {
    fn kind() -> String {
        "true or false".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        value.as_bool()
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

/// Numbers: what messages call the type, and how TOML has it, both ways.
macro_rules! numbers {
    ($($T:ty: $kind:literal, $read:expr, $write:expr;)+) => {$(
        impl Value for $T {
            fn kind() -> String {
                $kind.into()
            }
            fn read(value: &toml::Value) -> Option<Self> {
                $read(value)
            }
            fn write(&self) -> Option<toml::Value> {
                Some($write(*self))
            }
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
        }
    )+};
}

numbers! {
    i64: "a whole number", toml::Value::as_integer, toml::Value::Integer;
    // TOML integers have 63 bits; only a recipe built in code can hold more.
    u64: "a whole number",
        |v: &toml::Value| v.as_integer()?.try_into().ok(),
        |n| toml::Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    // Counts stay below 2^32 ([`MOST`]), so that the product of any two is still a count.
    usize: "a whole number",
        |v: &toml::Value| u32::try_from(v.as_integer()?).ok().map(|n| n as usize),
        |n| toml::Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    // 1 is as good as 1.0 to everyone but TOML.
    f64: "a finite number",
        |v: &toml::Value| v.as_float().or(v.as_integer().map(|n| n as f64)),
        toml::Value::Float;
    // By way of the shortest decimal, so that 0.05 is not printed as 0.05000000074505806.
    f32: "a finite number",
        |v: &toml::Value| f64::read(v).map(|n| n as f32),
        |n: f32| toml::Value::Float(n.to_string().parse().unwrap_or(f64::from(n)));
}

impl Value for String {
    fn kind() -> String {
        "a string".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        value.as_str().map(String::from)
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.clone()))
    }
}

impl Value for PathBuf {
    fn kind() -> String {
        "a path".into()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        value.as_str().filter(|s| !s.is_empty()).map(PathBuf::from)
    }
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string_lossy().into_owned()))
    }
    fn map_paths(&mut self, f: &dyn Fn(&Path) -> PathBuf) {
        if !self.as_os_str().is_empty() {
            *self = f(self);
        }
    }
}

/// An empty string unsets: a flag can take back what the recipe file gives.
impl<V: Value> Value for Option<V> {
    fn kind() -> String {
        format!("{}, or \"\" for none", V::kind())
    }
    fn choices() -> Vec<(&'static str, &'static str)> {
        V::choices()
    }
    fn read(value: &toml::Value) -> Option<Self> {
        if value.as_str() == Some("") { Some(None) } else { V::read(value).map(Some) }
    }
    fn write(&self) -> Option<toml::Value> {
        self.as_ref().and_then(V::write)
    }
    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(V::number)
    }
    fn map_paths(&mut self, f: &dyn Fn(&Path) -> PathBuf) {
        if let Some(value) = self {
            value.map_paths(f);
        }
    }
}

/// What there is to know about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The section without brackets.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// The default as TOML; `""` where the key is unset or required.
    pub default: String,
    /// What the key means, in a sentence or two.
    pub doc: &'static str,
    /// What a checkpoint records of it.
    pub effect: Effect,
    /// Which values are accepted.
    pub accepts: String,
    /// The names to choose from, each with what it stands for (empty where the name says it); none for other keys.
    pub choices: Vec<(&'static str, &'static str)>,
}

/// A key with its present value.
pub(super) struct Field {
    pub key: Key,
    /// `None` where unset.
    pub value: Option<toml::Value>,
    /// Whether the value lies in the key's range.
    pub ok: bool,
}

/// A value as TOML. Small floats are written as people write them: 1e-8, not 0.00000001.
pub(super) fn show(value: Option<&toml::Value>) -> String {
    match value {
        None => "\"\"".into(),
        Some(toml::Value::Float(n)) if *n != 0.0 && n.is_finite() && !(1e-3..1e9).contains(&n.abs()) => {
            format!("{n:e}")
        }
        Some(value) => value.to_string(),
    }
}

/// A section of the recipe, key by key.
pub(super) trait Section {
    fn name(&self) -> &'static str;
    fn doc(&self) -> &'static str;
    fn fields(&self) -> Vec<Field>;
    /// Sets one key, its paths mapped by `at`. `None`: there is no such key; `Err`: what the key accepts.
    fn set(
        &mut self, key: &str, value: &toml::Value, at: &dyn Fn(&Path) -> PathBuf,
    ) -> Option<std::result::Result<(), String>>;
    fn map_paths(&mut self, f: &dyn Fn(&Path) -> PathBuf);
}

/// Declares a section: `section! { /// doc Name = "name" { /// doc key: Type = default, range, effect; ... } }`.
macro_rules! section {
    ($(#[doc = $about:literal])+ $Name:ident = $section:literal {
        $($(#[doc = $doc:literal])+ $key:ident: $T:ty = $default:expr, $range:expr, $effect:expr;)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $Name {
            $($(#[doc = $doc])+ #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")] pub $key: $T,)+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::train::recipe::value::Section for $Name {
            fn name(&self) -> &'static str {
                $section
            }
            fn doc(&self) -> &'static str {
                concat!($($about),+).trim()
            }
            fn fields(&self) -> Vec<$crate::train::recipe::value::Field> {
                use $crate::train::recipe::value::{Field, Key, Value, show};
                vec![$(Field {
                    key: Key {
                        section: $section,
                        name: stringify!($key),
                        default: show(<$T as Value>::write(&$default).as_ref()),
                        doc: concat!($($doc),+).trim(),
                        effect: $effect,
                        accepts: $range.accepts::<$T>(),
                        choices: <$T>::choices(),
                    },
                    value: self.$key.write(),
                    ok: $range.holds(&self.$key),
                }),+]
            }
            fn set(
                &mut self,
                key: &str,
                value: &toml::Value,
                at: &dyn Fn(&std::path::Path) -> std::path::PathBuf,
            ) -> Option<std::result::Result<(), String>> {
                use $crate::train::recipe::value::Value;
                match key {
                    $(stringify!($key) => Some(match <$T>::read(value).filter(|v| $range.holds(v)) {
                        Some(mut new) => {
                            new.map_paths(at);
                            self.$key = new;
                            Ok(())
                        }
                        None => Err($range.accepts::<$T>()),
                    }),)+
                    _ => None,
                }
            }
            fn map_paths(&mut self, f: &dyn Fn(&std::path::Path) -> std::path::PathBuf) {
                use $crate::train::recipe::value::Value;
                $(self.$key.map_paths(f);)+
            }
        }
    };
}

pub(super) use section;
