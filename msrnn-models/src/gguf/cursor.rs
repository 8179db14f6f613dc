//! Little-endian values out of bytes that may say anything.

/// Bytes, and how far they are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next bytes, if there are so many.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], String> {
        match usize::try_from(count).ok().filter(|count| *count <= self.left()) {
            Some(count) => {
                let taken = &self.bytes[self.at..self.at + count];
                self.at += count;
                Ok(taken)
            }
            None => Err(format!("{count} bytes from byte {} on are more than the file has", self.at)),
        }
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N as u64).map(|bytes| bytes.try_into().expect("N bytes"))
    }

    pub(super) fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text behind its length.
    pub(super) fn text(&mut self) -> Result<&'a str, String> {
        let (length, at) = (self.u64()?, self.at);
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|e| format!("the text at byte {} is not UTF-8", at + e.valid_up_to()))
    }
}
