//! Printing: aligned tables for people, JSON for programs.

use std::io::{self, BufWriter, Stdout, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::Failure;

/// Whom the output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OutputFormat {
    /// Aligned columns
    Table,
    /// One JSON document
    Json,
}

/// What a command has done to something: a line for people, an object for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Done {
    /// `created`, `changed`, `deleted`, `unchanged`, … : what the command was to do.
    pub(super) outcome: &'static str,
    /// Of what kind.
    pub(super) kind: &'static str,
    /// Which.
    pub(super) name: String,
    /// More about it, for people.
    #[serde(skip)]
    pub(super) detail: String,
}

impl Done {
    pub(super) fn new(outcome: &'static str, kind: &'static str, name: impl Into<String>) -> Self {
        Self { outcome, kind, name: name.into(), detail: String::new() }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn line(&self) -> String {
        let Self { outcome, kind, name, detail } = self;
        let colon = if detail.is_empty() { "" } else { ": " };
        format!("{outcome} {kind} {name}{colon}{detail}\n")
    }
}

/// `1 record`, `2 records`.
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{number} {one}{}", if number == 1 { "" } else { "s" })
}

/// Standard output, buffered, in a format.
pub(super) struct Output {
    format: OutputFormat,
    out: BufWriter<Stdout>,
}

impl Output {
    pub(super) fn stdout(format: OutputFormat) -> Self {
        Self { format, out: BufWriter::new(io::stdout()) }
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// Prints rows: as an array of objects, or aligned below their headings.
    pub(super) fn rows<T: Serialize>(
        mut self,
        headings: &[&str],
        rows: &[T],
        cells: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(&rows);
        }
        self.out.write_all(table(headings, rows.iter().map(cells)).as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Prints a document: as JSON, or as the text that `people` makes of it.
    pub(super) fn document<T: Serialize>(
        mut self,
        document: &T,
        people: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(document);
        }
        self.out.write_all(people(document).as_bytes())?;
        Ok(self.out.flush()?)
    }

    /// Tells what was done.
    pub(super) fn done(mut self, done: &[Done]) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(&done);
        }
        for done in done {
            self.out.write_all(done.line().as_bytes())?;
        }
        Ok(self.out.flush()?)
    }

    fn json<T: Serialize>(mut self, document: &T) -> Result<(), Failure> {
        serde_json::to_writer_pretty(&mut self.out, document)?;
        self.out.write_all(b"\n")?;
        Ok(self.out.flush()?)
    }
}

/// Rows in columns that are as wide as their widest cell.
pub(super) fn table(headings: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![headings.iter().map(ToString::to_string).collect()];
    lines.extend(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        out.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// Numbers as people read lists: `0,1,2`.
pub(super) fn list(numbers: &[i32]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_a_line() {
        let done = Done::new("deleted", "topic", "t");
        assert_eq!(done.line(), "deleted topic t\n");
        assert_eq!(
            Done::new("created", "topic", "t").detail(counted(1, "partition")).line(),
            "created topic t: 1 partition\n"
        );
        assert_eq!(serde_json::to_string(&done).unwrap(), r#"{"outcome":"deleted","kind":"topic","name":"t"}"#);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_without_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["länger".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], rows.into_iter()), "NAME    N\na       1\nlänger\n");
    }
}
