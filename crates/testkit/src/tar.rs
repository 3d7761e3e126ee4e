//! Archives that no honest program would write.

/// A tar archive that is built header by header.
#[derive(Default)]
pub struct Archive(
    /// The bytes so far.
    pub Vec<u8>,
);

impl Archive {
    /// A POSIX header with these fields, and data.
    pub fn entry(mut self, flag: u8, path: &str, link: &str, data: &[u8]) -> Archive {
        self.header(flag, path, link, data.len() as u64);
        self.data(data)
    }

    /// A regular file.
    pub fn file(self, path: &str, data: &[u8]) -> Archive {
        self.entry(b'0', path, "", data)
    }

    /// An extended header.
    pub fn pax(self, flag: u8, records: &[(&str, &str)]) -> Archive {
        let mut text = Vec::new();
        for (key, value) in records {
            let mut len = key.len() + value.len() + 4;
            while format!("{len} {key}={value}\n").len() != len {
                len += 1;
            }
            text.extend(format!("{len} {key}={value}\n").into_bytes());
        }
        self.entry(flag, "PaxHeaders.0/x", "", &text)
    }

    /// A header without data behind it, whatever size it speaks of.
    pub fn header(&mut self, flag: u8, path: &str, link: &str, size: u64) {
        let mut block = [0_u8; 512];
        block[..path.len()].copy_from_slice(path.as_bytes());
        block[100..108].copy_from_slice(b"0000644\0");
        block[108..116].copy_from_slice(b"0000001\0");
        block[116..124].copy_from_slice(b"0000002\0");
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        block[136..148].copy_from_slice(b"00000000005\0");
        block[156] = flag;
        block[157..157 + link.len()].copy_from_slice(link.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.sealed(block);
    }

    /// An entry some bytes of whose header are others: each by where it begins.
    pub fn patched(
        mut self,
        flag: u8,
        path: &str,
        patches: &[(usize, &[u8])],
        data: &[u8],
    ) -> Archive {
        let begin = self.0.len();
        self.header(flag, path, "", data.len() as u64);
        let mut block = [0; 512];
        block.copy_from_slice(&self.0[begin..]);
        for (at, bytes) in patches {
            block[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        self.0.truncate(begin);
        self.sealed(block);
        self.data(data)
    }

    /// A block as it is, but for its checksum.
    pub fn sealed(&mut self, mut block: [u8; 512]) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        self.0.extend(block);
    }

    /// Data of the entry whose header came before.
    pub fn data(mut self, data: &[u8]) -> Archive {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// The whole archive.
    pub fn end(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }
}
