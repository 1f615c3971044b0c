//! The records of a v2 batch: a bounded walk over them and their encoding.

/// Why a batch's records cannot be read. The texts are what Kafka's clients and tools know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The records end before the count that the header declares.
    #[error("Incorrect declared batch size, premature EOF reached")]
    TooFew,
    /// More bytes behind the declared count.
    #[error("Incorrect declared batch size, records still remaining in file")]
    TooMany,
    /// A size or a variable-length number that cannot be.
    #[error("Found invalid record structure")]
    Structure,
    /// More or fewer than no headers.
    #[error("Found invalid number of record headers {0}")]
    HeaderCount(i32),
    /// The record's own size and its contents differ.
    #[error("Invalid record size: expected to read {expected} bytes in record payload, but instead read {read}")]
    Size {
        /// What the record declares.
        expected: usize,
        /// What its fields take.
        read: usize,
    },
}

/// One record, borrowed from its batch's decompressed payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// All its bytes, the size in front included.
    pub raw: &'a [u8],
    /// Added to the batch's base timestamp.
    pub timestamp_delta: i64,
    /// Added to the batch's base offset.
    pub offset_delta: i32,
    /// `None` is Kafka's null.
    pub key: Option<&'a [u8]>,
    /// `None` is Kafka's null: a tombstone.
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The headers, in order: key and value.
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }
}

/// Iterates over a record's headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers<'a> {
    left: i32,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let mut cursor = Cursor { bytes: self.bytes };
        let key = cursor.nullable().expect("well formed because the walk checked it");
        let value = cursor.nullable().expect("well formed because the walk checked it");
        self.bytes = cursor.bytes;
        Some((key.unwrap_or_default(), value))
    }
}

/// Iterates over the records of a decompressed payload; ends after the first error.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Records<'a> {
    /// Over a payload whose header declares `count` records.
    pub fn new(payload: &'a [u8], count: i32) -> Self {
        Self { cursor: Cursor { bytes: payload }, left: count.max(0) }
    }

    fn read(&mut self) -> Result<Record<'a>, RecordError> {
        if self.cursor.bytes.is_empty() {
            return Err(RecordError::TooFew);
        }
        let start = self.cursor.bytes;
        let size = usize::try_from(self.cursor.varint()?).map_err(|_| RecordError::Structure)?;
        if size > self.cursor.bytes.len() {
            return Err(RecordError::Structure);
        }
        let (body, rest) = self.cursor.bytes.split_at(size);
        self.cursor.bytes = rest;
        let raw = &start[..start.len() - rest.len()];

        let mut cursor = Cursor { bytes: body };
        cursor.take(1)?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let key = cursor.nullable()?;
        let value = cursor.nullable()?;
        let count = cursor.varint()?;
        if count < 0 || count as usize > cursor.bytes.len() {
            return Err(RecordError::HeaderCount(count));
        }
        let headers = Headers { left: count, bytes: cursor.bytes };
        for _ in 0..count {
            cursor.nullable()?.ok_or(RecordError::Structure)?;
            cursor.nullable()?;
        }
        if !cursor.bytes.is_empty() {
            return Err(RecordError::Size { expected: size, read: size - cursor.bytes.len() });
        }
        Ok(Record { raw, timestamp_delta, offset_delta, key, value, headers })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.cursor.bytes.is_empty() {
                return None;
            }
            self.cursor.bytes = &[];
            return Some(Err(RecordError::TooMany));
        }
        self.left -= 1;
        let record = self.read();
        if record.is_err() {
            *self = Self::new(&[], 0);
        }
        Some(record)
    }
}

#[derive(Debug, Clone)]
struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], RecordError> {
        let (front, rest) = self.bytes.split_at_checked(count).ok_or(RecordError::Structure)?;
        self.bytes = rest;
        Ok(front)
    }

    /// A length-prefixed field; −1 (Kafka takes any negative length so) is null.
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, RecordError> {
        let length = self.varint()?;
        if length < 0 { Ok(None) } else { self.take(length as usize).map(Some) }
    }

    fn varint(&mut self) -> Result<i32, RecordError> {
        let raw = self.unsigned(5)?;
        if raw > u64::from(u32::MAX) {
            return Err(RecordError::Structure);
        }
        let raw = raw as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, RecordError> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[inline]
    fn unsigned(&mut self, most_bytes: usize) -> Result<u64, RecordError> {
        if let Some((&first, rest)) = self.bytes.split_first()
            && first < 0x80
        {
            self.bytes = rest;
            return Ok(u64::from(first));
        }
        let mut value = 0u64;
        for (at, &byte) in self.bytes.iter().take(most_bytes).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.bytes = &self.bytes[at + 1..];
                return Ok(value);
            }
        }
        Err(RecordError::Structure)
    }
}

/// What a record is made of, for encoding.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordParts<'a, H> {
    pub timestamp_delta: i64,
    pub offset_delta: i32,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: H,
}

impl<'a, H> RecordParts<'a, H>
where
    H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
{
    /// Appends the record's bytes.
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        put_varint(into, self.body_bytes() as i32);
        into.push(0);
        put_varlong(into, self.timestamp_delta);
        put_varint(into, self.offset_delta);
        put_nullable(into, self.key);
        put_nullable(into, self.value);
        put_varint(into, self.headers.clone().count() as i32);
        for (key, value) in self.headers.clone() {
            put_nullable(into, Some(key));
            put_nullable(into, value);
        }
    }

    fn body_bytes(&self) -> usize {
        let headers: usize = self.headers.clone().map(|(k, v)| nullable_bytes(Some(k)) + nullable_bytes(v)).sum();
        1 + varlong_bytes(self.timestamp_delta)
            + varlong_bytes(i64::from(self.offset_delta))
            + nullable_bytes(self.key)
            + nullable_bytes(self.value)
            + varlong_bytes(self.headers.clone().count() as i64)
            + headers
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn varlong_bytes(value: i64) -> usize {
    let bits = 64 - zigzag(value).leading_zeros() as usize;
    bits.div_ceil(7).max(1)
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| varlong_bytes(field.len() as i64) + field.len())
}

fn put_varlong(into: &mut Vec<u8>, value: i64) {
    let mut left = zigzag(value);
    while left >= 0x80 {
        into.push(left as u8 | 0x80);
        left >>= 7;
    }
    into.push(left as u8);
}

fn put_varint(into: &mut Vec<u8>, value: i32) {
    put_varlong(into, i64::from(value));
}

fn put_nullable(into: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(into, -1),
        Some(field) => {
            put_varint(into, field.len() as i32);
            into.extend_from_slice(field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Header = (Vec<u8>, Option<Vec<u8>>);

    fn field() -> impl Strategy<Value = Option<Vec<u8>>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            timestamp_delta in any::<i64>(),
            offset_delta in any::<i32>(),
            key in field(),
            value in field(),
            headers in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), field()), 0..4),
        ) {
            let parts = RecordParts {
                timestamp_delta,
                offset_delta,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: headers.iter().map(|(k, v)| (k.as_slice(), v.as_deref())),
            };
            let mut bytes = Vec::new();
            parts.encode(&mut bytes);
            let mut records = Records::new(&bytes, 1);
            let record = records.next().expect("one").expect("well formed");
            prop_assert_eq!((record.timestamp_delta, record.offset_delta), (timestamp_delta, offset_delta));
            prop_assert_eq!((record.key, record.value), (key.as_deref(), value.as_deref()));
            let read: Vec<Header> =
                record.headers().map(|(k, v)| (k.to_vec(), v.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(read, headers);
            prop_assert_eq!(record.raw, bytes.as_slice());
            prop_assert!(records.next().is_none());
        }

        #[test]
        fn any_bytes_are_walked_without_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300),
            count in any::<i32>(),
        ) {
            for record in Records::new(&bytes, count).flatten() {
                record.headers().count();
            }
        }
    }

    #[test]
    fn a_lying_count_is_found_both_ways() {
        let mut bytes = Vec::new();
        let parts =
            RecordParts { timestamp_delta: 0, offset_delta: 0, key: None, value: None, headers: std::iter::empty() };
        parts.encode(&mut bytes);
        let outcomes: Vec<_> = Records::new(&bytes, 2).map(Result::err).collect();
        assert_eq!(outcomes, [None, Some(RecordError::TooFew)]);
        let outcomes: Vec<_> = Records::new(&bytes, 0).map(Result::err).collect();
        assert_eq!(outcomes, [Some(RecordError::TooMany)]);
    }
}
