//! Memory at an address from which a file opened with `OpenMode::Direct` can be written.

use super::BLOCK_BYTES;

const BLOCK: usize = BLOCK_BYTES as usize;

/// A buffer that starts and ends at multiples of [`BLOCK_BYTES`]; used again and again.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
}

impl AlignedBuffer {
    /// Copies `parts` in, back to back, and pads them with zeros to whole blocks.
    pub fn gather<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]> + Clone) -> &mut [u8] {
        let bytes: usize = parts.clone().map(<[u8]>::len).sum();
        let blocks = self.blocks(bytes.next_multiple_of(BLOCK));
        let mut rest = &mut *blocks;
        for part in parts {
            let (place, after) = rest.split_at_mut(part.len());
            place.copy_from_slice(part);
            rest = after;
        }
        rest.fill(0);
        blocks
    }

    /// So many bytes, of any content. One block more than asked for is allocated, so that aligned ones are in it.
    fn blocks(&mut self, bytes: usize) -> &mut [u8] {
        if self.memory.len() < bytes + BLOCK {
            self.memory = vec![0; (bytes + BLOCK).next_power_of_two()];
        }
        let start = self.memory.as_ptr().align_offset(BLOCK);
        &mut self.memory[start..start + bytes]
    }

    /// Frees the memory if it is more than so many bytes.
    pub fn free_above(&mut self, bytes: usize) {
        if self.memory.len() > bytes {
            self.memory = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_lies_in_whole_aligned_blocks_padded_with_zeros() {
        let mut buffer = AlignedBuffer::default();
        for bytes in [1_usize, 4095, 4096, 4097, 100_000, 17] {
            let parts = [vec![7; bytes / 3], Vec::new(), vec![8; bytes - bytes / 3]];
            let gathered = buffer.gather(parts.iter().map(Vec::as_slice));
            assert_eq!(gathered.as_ptr().addr() % BLOCK, 0);
            assert_eq!(gathered.len(), bytes.next_multiple_of(BLOCK));
            assert_eq!(gathered[..bytes], parts.concat());
            assert!(gathered[bytes..].iter().all(|byte| *byte == 0), "nothing of the round before is left");
        }
        assert!(buffer.memory.len() > 100_000, "kept");
        buffer.free_above(1 << 20);
        assert!(!buffer.memory.is_empty());
        buffer.free_above(4096);
        assert!(buffer.memory.is_empty());
    }
}
