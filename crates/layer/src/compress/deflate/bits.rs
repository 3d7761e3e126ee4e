//! Streams bit by bit, the lowest of each byte first.

/// A stream that is read. Beyond its end there are zeros.
pub(super) struct Reader<'a> {
    stream: &'a [u8],
    /// The next byte that is not in the buffer.
    next: usize,
    buffer: u64,
    /// Bits in the buffer.
    held: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(stream: &'a [u8]) -> Reader<'a> {
        Reader {
            stream,
            next: 0,
            buffer: 0,
            held: 0,
        }
    }

    /// Makes the buffer hold 56 bits or more: what is looked at or taken until the next time.
    #[inline]
    pub(super) fn refill(&mut self) {
        let whole = self.stream.get(self.next..self.next + 8);
        if let Some(Ok(bytes)) = whole.map(<[u8; 8]>::try_from) {
            self.buffer |= u64::from_le_bytes(bytes) << self.held;
            self.next += (63 - self.held as usize) / 8;
            self.held |= 56;
        }
        while self.held < 56 {
            let byte = self.stream.get(self.next).copied().unwrap_or(0);
            self.buffer |= u64::from(byte) << self.held;
            self.next += 1;
            self.held += 8;
        }
    }

    /// The next bits, which stay.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.buffer & ((1 << count) - 1)) as usize
    }

    /// Goes on by so many bits.
    #[inline]
    pub(super) fn drop(&mut self, count: u32) {
        self.buffer >>= count;
        self.held -= count;
    }

    /// The next bits.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> usize {
        let bits = self.peek(count);
        self.drop(count);
        bits
    }

    /// Bits before the next one.
    pub(super) fn position(&self) -> u64 {
        self.next as u64 * 8 - u64::from(self.held)
    }

    /// Whether the end of the stream is more than a buffer behind.
    #[inline]
    pub(super) fn is_exhausted(&self) -> bool {
        self.next > self.stream.len() + 16
    }

    /// Goes to the end of a stored block, whose first three bits were read. Returns how long it is.
    pub(super) fn skip_stored(&mut self) -> usize {
        self.drop(self.held % 8);
        let len = self.take(16);
        self.drop(16);
        self.next = (self.position() / 8) as usize + len;
        (self.buffer, self.held) = (0, 0);
        len
    }
}

/// A stream that is written.
pub(super) struct Writer {
    /// Longer than what was written.
    stream: Vec<u8>,
    /// Whole bytes that were written.
    written: usize,
    buffer: u64,
    /// Bits in the buffer: less than 8.
    held: u32,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Writer {
        Writer {
            stream: vec![0; capacity],
            written: 0,
            buffer: 0,
            held: 0,
        }
    }

    /// Writes up to 56 bits.
    #[inline]
    pub(super) fn put(&mut self, bits: u64, count: u32) {
        self.buffer |= bits << self.held;
        self.held += count;
        let place = self.written..self.written + 8;
        if place.end > self.stream.len() {
            self.stream.resize(2 * place.end, 0);
        }
        self.stream[place].copy_from_slice(&self.buffer.to_le_bytes());
        self.written += self.held as usize / 8;
        // Less than 64, since 7 and 56 are.
        self.buffer >>= self.held & 0x38;
        self.held %= 8;
    }

    /// Bits that were written.
    pub(super) fn position(&self) -> u64 {
        self.written as u64 * 8 + u64::from(self.held)
    }

    /// Writes zeros up to a byte boundary, and then these bytes.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) {
        self.put(0, self.held.wrapping_neg() % 8);
        self.stream.truncate(self.written);
        self.stream.extend(bytes);
        self.written = self.stream.len();
    }

    /// What was written, if it ended on a byte boundary.
    pub(super) fn into_stream(mut self) -> Vec<u8> {
        self.stream.truncate(self.written);
        self.stream
    }
}
