//! What a setting is: its name, type, default, valid values, and how it may change.

use std::fmt;

use super::value::{Kind, Value};

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
        let mut value = self.kind.parse(text).ok_or_else(|| refuse(format!("must be {}", self.kind.expected())))?;
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
                Self { $($field: $crate::config::value::FromValue::from_value(value($name)),)* }
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
}
