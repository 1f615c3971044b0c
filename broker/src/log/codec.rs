//! The frame of the log's own small files: a version, fields in little endian, a CRC-32C at the end.

/// Bytes of the version in front and the CRC behind.
const FRAME_BYTES: usize = 8;

/// Writes fields one after the other.
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Begins a file of this version.
    pub(super) fn new(version: u32) -> Self {
        Self { bytes: version.to_le_bytes().to_vec() }
    }

    pub(super) fn raw<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes.extend_from_slice(&field);
    }

    pub(super) fn u32(&mut self, field: u32) {
        self.raw(field.to_le_bytes());
    }

    pub(super) fn i32(&mut self, field: i32) {
        self.raw(field.to_le_bytes());
    }

    pub(super) fn i64(&mut self, field: i64) {
        self.raw(field.to_le_bytes());
    }

    /// The whole file.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let crc = crc_fast::crc32_iscsi(&self.bytes);
        self.u32(crc);
        self.bytes
    }
}

/// Reads what `Writer` wrote; every read is `None` when the bytes are not there.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks the frame; `None` when CRC or version differ.
    pub(super) fn new(file: &'a [u8], version: u32) -> Option<Self> {
        if file.len() < FRAME_BYTES {
            return None;
        }
        let (body, crc) = file.split_last_chunk()?;
        let mut reader = Self { left: body };
        (crc_fast::crc32_iscsi(body) == u32::from_le_bytes(*crc) && reader.u32()? == version).then_some(reader)
    }

    pub(super) fn raw<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, left) = self.left.split_first_chunk()?;
        self.left = left;
        Some(*field)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.raw().map(u32::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Option<i32> {
        self.raw().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.raw().map(i64::from_le_bytes)
    }

    /// A count of items of at least `item_bytes` each, no more than can be there.
    pub(super) fn count(&mut self, item_bytes: usize) -> Option<usize> {
        let count = self.u32()? as usize;
        (count <= self.left.len() / item_bytes).then_some(count)
    }

    /// Whether everything was read.
    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }
}
