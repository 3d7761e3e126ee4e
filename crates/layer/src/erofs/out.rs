//! A file that is written from front to back, with places that are filled in later.

use super::format::BLOCK;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How many bytes are gathered before they are written. Places that are filled in later are mostly
/// still among them.
const BUFFER: usize = 1 << 20;

pub(super) struct Out<'a> {
    file: &'a File,
    /// What comes next is not written yet.
    buffer: Vec<u8>,
    /// Where `buffer` begins.
    written: u64,
}

impl<'a> Out<'a> {
    pub(super) fn new(file: &'a File) -> Out<'a> {
        Out {
            file,
            buffer: Vec::new(),
            written: 0,
        }
    }

    /// Of what comes next.
    pub(super) fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        match self.buffer.len() >= BUFFER {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Fills up with zeros to `position`, which does not lie back.
    pub(super) fn pad_to(&mut self, position: u64) -> io::Result<()> {
        const ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
        debug_assert!(position >= self.position(), "the image is written in order");
        while self.position() < position {
            let step = (position - self.position()).min(BLOCK);
            self.put(&ZEROS[..step as usize])?;
        }
        Ok(())
    }

    /// Replaces bytes that were put before.
    pub(super) fn replace(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        match position.checked_sub(self.written) {
            Some(at) => {
                let at = at as usize;
                self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
            None => {
                // It may reach into the buffer.
                self.flush()?;
                self.file.write_all_at(bytes, position)
            }
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
