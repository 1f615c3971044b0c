//! `consume --format`: what is printed for a record.

use crate::client::records::Record;

/// A piece of a format.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Key,
    Value,
    Topic,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

/// A parsed format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

/// Parses a format: `%k %v %t %p %o %T %h %%`, and `\n \t \0 \\`.
pub(super) fn parse(text: &str) -> Result<Format, String> {
    let mut pieces = Vec::new();
    let mut literal = Vec::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let piece = match character {
            '%' => match characters.next() {
                Some('k') => Piece::Key,
                Some('v') => Piece::Value,
                Some('t') => Piece::Topic,
                Some('p') => Piece::Partition,
                Some('o') => Piece::Offset,
                Some('T') => Piece::Timestamp,
                Some('h') => Piece::Headers,
                Some('%') => {
                    literal.push(b'%');
                    continue;
                }
                other => {
                    let shown = other.map(String::from).unwrap_or_default();
                    return Err(format!("'%{shown}' is none of %k %v %t %p %o %T %h %%"));
                }
            },
            '\\' => {
                literal.push(match characters.next() {
                    Some('n') => b'\n',
                    Some('t') => b'\t',
                    Some('0') => 0,
                    Some('\\') => b'\\',
                    other => {
                        let shown = other.map(String::from).unwrap_or_default();
                        return Err(format!("'\\{shown}' is none of \\n \\t \\0 \\\\"));
                    }
                });
                continue;
            }
            plain => {
                literal.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    Ok(Format(pieces))
}

impl Format {
    /// Appends a record. Keys and values go out byte for byte; what is null goes out as nothing.
    pub(super) fn write(&self, topic: &str, partition: i32, record: &Record, out: &mut Vec<u8>) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Key => out.extend_from_slice(record.key.as_deref().unwrap_or_default()),
                Piece::Value => out.extend_from_slice(record.value.as_deref().unwrap_or_default()),
                Piece::Topic => out.extend_from_slice(topic.as_bytes()),
                Piece::Partition => out.extend_from_slice(partition.to_string().as_bytes()),
                Piece::Offset => out.extend_from_slice(record.offset.to_string().as_bytes()),
                Piece::Timestamp => out.extend_from_slice(record.timestamp_ms.to_string().as_bytes()),
                Piece::Headers => write_headers(record, out),
            }
        }
    }
}

fn write_headers(record: &Record, out: &mut Vec<u8>) {
    for (index, (name, value)) in record.headers.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn printed(format: &str) -> String {
        let record = Record {
            offset: 42,
            timestamp_ms: 1_000,
            key: Some(Bytes::from_static(b"k")),
            value: None,
            headers: vec![("a".to_owned(), Some(Bytes::from_static(b"1"))), ("b".to_owned(), None)],
        };
        let mut out = Vec::new();
        parse(format).unwrap().write("topic", 3, &record, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_directive_prints_its_part() {
        assert_eq!(printed("%t-%p@%o %T [%h] %k:%v|%%"), "topic-3@42 1000 [a=1,b=] k:|%");
        assert_eq!(printed(r"%k\t%o\n"), "k\t42\n");
        assert_eq!(printed("é%k"), "ék");
    }

    #[test]
    fn what_is_no_directive_is_refused() {
        for wrong in ["%x", "%", r"\q", r"\"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
