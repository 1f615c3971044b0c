//! raft-rs logs through slog; this passes its lines on to tracing.

use std::fmt::{self, Write as _};

use slog::{Drain, KV, Level, Logger, OwnedKVList, Record, Serializer, o};

/// A logger for raft-rs.
pub(super) fn logger() -> Logger {
    Logger::root(ToTracing, o!())
}

struct ToTracing;

impl Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), slog::Never> {
        match record.level() {
            Level::Critical | Level::Error => tracing::error!(target: "raft", "{}", Line(record)),
            Level::Warning => tracing::warn!(target: "raft", "{}", Line(record)),
            // Elections and configuration changes: the driver reports what an operator wants to know of them.
            Level::Info | Level::Debug => tracing::debug!(target: "raft", "{}", Line(record)),
            Level::Trace => tracing::trace!(target: "raft", "{}", Line(record)),
        }
        Ok(())
    }
}

/// The message and its values; formatted only when somebody listens.
struct Line<'a>(&'a Record<'a>);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.msg())?;
        let mut values = Values(String::new());
        self.0.kv().serialize(self.0, &mut values).map_err(|_| fmt::Error)?;
        f.write_str(&values.0)
    }
}

struct Values(String);

impl Serializer for Values {
    fn emit_arguments(&mut self, key: slog::Key, value: &fmt::Arguments<'_>) -> slog::Result {
        write!(self.0, " {key}={value}").map_err(slog::Error::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_message_and_values() {
        let values = slog::b!("term" => 3);
        let location = slog::record_static!(Level::Info, "");
        let text = Line(&Record::new(&location, &format_args!("became leader"), values)).to_string();
        assert_eq!(text, "became leader term=3");
    }
}
