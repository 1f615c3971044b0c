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
    fn columns_are_as_wide_as_their_widest_cell_without_trailing_blanks() {
        let rows = vec![vec!["a".to_owned(), "1".to_owned()], vec!["länger".to_owned(), String::new()]];
        assert_eq!(table(&["NAME", "N"], rows.into_iter()), "NAME    N\na       1\nlänger\n");
    }
}
