//! What a setting is: its name, type, default, valid values, and how it may change.

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

    /// Its name in messages and in the reference.
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

/// Which values of its type a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// All.
    Any,
    /// Numbers from here on.
    AtLeast(i64),
    /// Numbers in this range, both ends included.
    Between(i64, i64),
    /// These texts; for a list each item.
    OneOf(&'static [&'static str]),
    /// These texts in any case.
    OneOfIgnoringCase(&'static [&'static str]),
    /// 1 to 9, or −1.
    GzipLevel,
    /// Something.
    NonEmpty,
    /// `*`, or items `partition:broker`.
    ThrottledReplicas,
    /// `latest`, `earliest`, or `by_duration:` and a duration.
    ShareOffsetReset,
}

impl Valid {
    /// What is wrong with a value, or nothing.
    pub fn check(self, value: &Value) -> Result<(), String> {
        let accepted = match self {
            Self::Any => true,
            Self::AtLeast(minimum) => compare(value, minimum).is_none_or(std::cmp::Ordering::is_ge),
            Self::Between(minimum, maximum) => {
                compare(value, minimum).is_none_or(std::cmp::Ordering::is_ge)
                    && compare(value, maximum).is_none_or(std::cmp::Ordering::is_le)
            }
            Self::OneOf(allowed) => match value {
                Value::List(items) => items.iter().all(|item| allowed.contains(&item.as_str())),
                other => allowed.contains(&other.to_string().as_str()),
            },
            Self::OneOfIgnoringCase(allowed) => {
                let text = value.to_string();
                allowed.iter().any(|option| option.eq_ignore_ascii_case(&text))
            }
            Self::GzipLevel => value.integer().is_some_and(|level| level == -1 || (1..=9).contains(&level)),
            Self::NonEmpty => !value.to_string().is_empty(),
            Self::ThrottledReplicas => throttled_replicas(value),
            Self::ShareOffsetReset => {
                let text = value.to_string();
                matches!(text.as_str(), "latest" | "earliest") || text.starts_with("by_duration:P")
            }
        };
        if accepted { Ok(()) } else { Err(format!("must be {self}")) }
    }
}

impl fmt::Display for Valid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::AtLeast(minimum) => write!(f, "at least {minimum}"),
            Self::Between(minimum, maximum) => write!(f, "between {minimum} and {maximum}"),
            Self::OneOf(allowed) | Self::OneOfIgnoringCase(allowed) => write!(f, "one of {}", allowed.join(", ")),
            Self::GzipLevel => f.write_str("between 1 and 9, or -1"),
            Self::NonEmpty => f.write_str("non-empty"),
            Self::ThrottledReplicas => f.write_str("* or a list of partition:broker"),
            Self::ShareOffsetReset => f.write_str("latest, earliest or by_duration:PnDTnHnMn.nS"),
        }
    }
}

fn compare(value: &Value, bound: i64) -> Option<std::cmp::Ordering> {
    match value {
        Value::Double(number) => number.partial_cmp(&(bound as f64)),
        other => other.integer().map(|number| number.cmp(&bound)),
    }
}

fn throttled_replicas(value: &Value) -> bool {
    let Value::List(items) = value else { return false };
    if items.iter().map(String::as_str).eq(["*"]) {
        return true;
    }
    items.iter().all(|item| {
        let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        item.split_once(':').is_some_and(|(partition, broker)| number(partition) && number(broker))
    })
}

/// How a broker's setting may change while it runs (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// At start only.
    ReadOnly,
    /// For one broker.
    PerBroker,
    /// For one broker, or as the default of all.
    ClusterWide,
}

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Definition {
    /// Kafka's name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Its default; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Which values it takes.
    pub valid: Valid,
    /// How it may change.
    pub update: Update,
    /// What it does; empty when it has no effect in Chronik.
    pub documentation: &'static str,
}

/// Why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid value {shown} for configuration {name}: {reason}")]
pub struct InvalidValue {
    /// The setting.
    pub name: &'static str,
    /// The value, hidden when it is a secret.
    pub shown: String,
    /// What is wrong.
    pub reason: String,
}

impl Definition {
    /// Whether its value is a secret.
    pub const fn sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }

    /// Whether Chronik acts on it.
    pub const fn has_effect(&self) -> bool {
        !self.documentation.is_empty()
    }

    /// Reads and checks a value.
    pub fn parse(&self, text: &str) -> Result<Value, InvalidValue> {
        let refuse = |reason: String| InvalidValue {
            name: self.name,
            shown: if self.sensitive() { "[hidden]".to_owned() } else { text.to_owned() },
            reason,
        };
        let mut value = self.kind.parse(text).ok_or_else(|| refuse(format!("not a {}", self.kind.name())))?;
        self.valid.check(&value).map_err(refuse)?;
        if let (Value::List(items), Valid::OneOf(_)) = (&mut value, self.valid) {
            // A choice made twice is made once.
            let mut seen = std::collections::HashSet::new();
            items.retain(|item| seen.insert(item.clone()));
        }
        Ok(value)
    }

    /// The default's value.
    pub fn default_value(&self) -> Option<Value> {
        self.default.map(|text| self.kind.parse(text).expect("the table's defaults parse because a test parses them"))
    }
}

/// A setting that Kafka has and that does nothing here: accepted, checked and shown, so that configurations and tools
/// made for Kafka work.
pub(super) const fn inert(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    valid: Valid,
    update: Update,
) -> Definition {
    Definition { name, kind, default, valid, update, documentation: "" }
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

/// Declares settings that Chronik acts on: the typed values, and the table of their definitions.
macro_rules! settings {
    (
        $(#[$meta:meta])*
        $set:ident, $table:ident {
            $($field:ident: $type:ty = $kind:ident $name:literal, $default:expr, $valid:expr, $update:ident,
                $doc:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $set {
            $(#[doc = concat!("`", $name, "`: ", $doc)] pub $field: $type,)*
        }

        impl $set {
            /// From the effective value of each setting.
            pub(super) fn read(value: impl Fn(&'static str) -> Option<$crate::config::Value>) -> Self {
                Self { $($field: $crate::config::definition::FromValue::from_value(value($name)),)* }
            }
        }

        const $table: &[$crate::config::Definition] = &[
            $($crate::config::Definition {
                name: $name,
                kind: $crate::config::Kind::$kind,
                default: $default,
                valid: $valid,
                update: $crate::config::definition::Update::$update,
                documentation: $doc,
            },)*
        ];
    };
}
pub(super) use settings;

/// Joins two tables into one, sorted by name.
pub(super) fn sorted(tables: &[&[Definition]]) -> Vec<Definition> {
    let mut all = tables.concat();
    all.sort_by_key(|definition| definition.name);
    all
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

    #[test]
    fn validators() {
        for (valid, kind, good, bad) in [
            (Valid::AtLeast(0), Kind::Int, "0", "-1"),
            (Valid::Between(0, 1), Kind::Double, "1", "1.01"),
            (Valid::OneOf(&["compact", "delete"]), Kind::List, "delete,compact", "delete,"),
            (Valid::OneOf(&["compact", "delete"]), Kind::List, "compact", "compact,erase"),
            (Valid::OneOfIgnoringCase(&["DISABLED"]), Kind::String, "disabled", "off"),
            (Valid::GzipLevel, Kind::Int, "-1", "0"),
            (Valid::NonEmpty, Kind::String, "x", ""),
            (Valid::ThrottledReplicas, Kind::List, "0:1,2:3", "0:a"),
            (Valid::ThrottledReplicas, Kind::List, "*", "*,1:1"),
            (Valid::ShareOffsetReset, Kind::String, "by_duration:PT1H", "soon"),
        ] {
            let check = |text: &str| valid.check(&kind.parse(text).expect("these parse"));
            assert_eq!(check(good), Ok(()), "{good} is {valid}");
            assert!(check(bad).is_err(), "{bad} is not {valid}");
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
