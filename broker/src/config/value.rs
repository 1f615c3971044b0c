//! What a setting's value is: its types, their reading and writing as Java does both.

use std::fmt;

/// A setting's type, as DescribeConfigs tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// 32 bits.
    Int,
    /// 16 bits.
    Short,
    /// 64 bits.
    Long,
    /// A floating point number.
    Double,
    /// Texts, separated by commas.
    List,
    /// A Java class: text here.
    Class,
    /// Text that is never shown.
    Password,
}

impl Kind {
    /// The number on the wire (KIP-569).
    pub const fn wire(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }

    /// What a value must be to be read, in the words of messages.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Short => "a whole number from -32768 to 32767",
            Self::Int => "a whole number from -2147483648 to 2147483647",
            Self::Long => "a whole number of 64 bits",
            Self::Double => "a number",
            Self::String | Self::Class | Self::Password => "a text",
            Self::List => "texts, separated by commas",
        }
    }

    /// Its name in the reference.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Int => "int",
            Self::Short => "short",
            Self::Long => "long",
            Self::Double => "double",
            Self::List => "list",
            Self::Class => "class",
            Self::Password => "password",
        }
    }

    /// Reads a value as Kafka does: trimmed, lists split at commas.
    pub fn parse(self, text: &str) -> Option<Value> {
        let text = text.trim();
        Some(match self {
            Self::Boolean if text.eq_ignore_ascii_case("true") => Value::Boolean(true),
            Self::Boolean if text.eq_ignore_ascii_case("false") => Value::Boolean(false),
            Self::Boolean => return None,
            Self::Short => Value::Short(text.parse().ok()?),
            Self::Int => Value::Int(text.parse().ok()?),
            Self::Long => Value::Long(text.parse().ok()?),
            Self::Double => Value::Double(text.parse().ok().filter(|number: &f64| !number.is_nan())?),
            Self::List if text.is_empty() => Value::List(Vec::new()),
            Self::List => Value::List(text.split(',').map(|item| item.trim().to_owned()).collect()),
            Self::String | Self::Class | Self::Password => Value::Text(text.to_owned()),
        })
    }
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a boolean.
    Boolean(bool),
    /// Of a short.
    Short(i16),
    /// Of an int.
    Int(i32),
    /// Of a long.
    Long(i64),
    /// Of a double.
    Double(f64),
    /// Of a string, class or password.
    Text(String),
    /// Of a list.
    List(Vec<String>),
}

impl Value {
    /// As a whole number, when it is one.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Short(number) => Some(i64::from(*number)),
            Self::Int(number) => Some(i64::from(*number)),
            Self::Long(number) => Some(*number),
            _ => None,
        }
    }
}

/// The normal text: what DescribeConfigs answers, and what parses back to the same value.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(flag) => flag.fmt(f),
            Self::Short(number) => number.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Long(number) => number.fmt(f),
            Self::Double(number) => f.write_str(&java_double(*number)),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
        }
    }
}

/// A double as Java writes it: plain between 10⁻³ and 10⁷, else with an exponent; always with a fraction.
fn java_double(number: f64) -> String {
    let size = number.abs();
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    if number == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        _ => text,
    }
}

/// Makes a typed field of a value. The kinds fit because the `settings!` tables are tested to.
pub(super) trait FromValue {
    fn from_value(value: Option<Value>) -> Self;
}

macro_rules! from_value {
    ($($type:ty = $($variant:ident)|+;)*) => {$(
        impl FromValue for $type {
            fn from_value(value: Option<Value>) -> Self {
                match value {
                    $(Some(Value::$variant(value)))|+ => value,
                    other => unreachable!("a {} setting holds {other:?}, against its table", stringify!($type)),
                }
            }
        }
    )*};
}
from_value! {
    bool = Boolean;
    i16 = Short;
    i32 = Int;
    i64 = Long;
    f64 = Double;
    String = Text;
    Vec<String> = List;
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Option<Value>) -> Self {
        value.map(|value| T::from_value(Some(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_parse_as_java_does() {
        let parsed = |kind: Kind, text: &str| kind.parse(text).map(|value| value.to_string());
        for (kind, text, expected) in [
            (Kind::Boolean, " TRUE ", Some("true")),
            (Kind::Boolean, "yes", None),
            (Kind::Int, "+5", Some("5")),
            (Kind::Int, "2147483648", None),
            (Kind::Int, "1.5", None),
            (Kind::Short, "32768", None),
            (Kind::Long, "-9223372036854775808", Some("-9223372036854775808")),
            (Kind::Double, "0.50", Some("0.5")),
            (Kind::Double, "1e10", Some("1.0E10")),
            (Kind::Double, "1.7976931348623157E308", Some("1.7976931348623157E308")),
            (Kind::Double, "NaN", None),
            (Kind::List, " a , b", Some("a,b")),
            (Kind::List, "", Some("")),
            (Kind::String, " x ", Some("x")),
        ] {
            assert_eq!(parsed(kind, text).as_deref(), expected, "{kind:?} {text:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn normal_text_parses_back(number: f64, long: i64, items in proptest::collection::vec("[a-z]{1,5}", 0..4)) {
            for value in [Value::Double(number), Value::Long(long), Value::List(items)] {
                let kind = match value { Value::Double(_) => Kind::Double, Value::Long(_) => Kind::Long, _ => Kind::List };
                if number.is_finite() {
                    proptest::prop_assert_eq!(kind.parse(&value.to_string()), Some(value));
                }
            }
        }
    }
}
