//! What the workloads are made of: a base archive, and files with the same bytes on every
//! machine.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::run_with;

/// Programs that the workloads call.
const APPLETS: &[&str] = &["sh", "true", "sleep", "cat", "echo", "ls", "cp", "mkdir"];

/// Writes `base.tar`: Debian's static busybox under the names of the programs that are needed.
pub(super) fn base(folder: &Path) -> Result<()> {
    let tree = folder.join("base");
    for directory in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("cannot copy busybox")?;
    for applet in APPLETS {
        symlink("busybox", tree.join("bin").join(applet))?;
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(tree.join("etc/group"), "root:x:0:\n")?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&tree).arg("-cf");
    run_with(tar.arg(folder.join("base.tar")).args([
        "--owner=0",
        "--group=0",
        "--sort=name",
        "--mtime=@0",
        ".",
    ]))
}

/// A stream of bytes that looks random and is always the same (xorshift64).
pub(super) struct Noise(u64);

impl Noise {
    /// A stream of its own for each seed.
    pub(super) fn new(seed: u64) -> Noise {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// `len` bytes that no compressor makes much smaller than half: of each 16 bytes, half are
    /// noise and half repeat.
    pub(super) fn write(&mut self, out: &mut impl Write, len: usize) -> Result<()> {
        let mut left = len;
        while left > 0 {
            let mut piece = [b'.'; 16];
            piece[..8].copy_from_slice(&self.next().to_le_bytes());
            let wanted = left.min(piece.len());
            out.write_all(&piece[..wanted])?;
            left -= wanted;
        }
        Ok(())
    }
}

/// Writes one file of `len` bytes, unless it is there.
pub(super) fn file(path: &Path, seed: u64, len: usize) -> Result<()> {
    if path.metadata().is_ok_and(|m| m.len() == len as u64) {
        return Ok(());
    }
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    Noise::new(seed).write(&mut out, len)?;
    out.flush()?;
    Ok(())
}

/// Writes one file of so many MiB, each of which begins with a quarter of data and is a hole from
/// there on, unless it is there.
pub(super) fn sparse(path: &Path, seed: u64, mebibytes: usize) -> Result<()> {
    let len = (mebibytes as u64) << 20;
    if path.metadata().is_ok_and(|m| m.len() == len) {
        return Ok(());
    }
    let mut file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut noise = Noise::new(seed);
    let mut piece = Vec::with_capacity(256 << 10);
    for number in 0..mebibytes as u64 {
        piece.clear();
        noise.write(&mut piece, 256 << 10)?;
        file.seek(SeekFrom::Start(number << 20))?;
        file.write_all(&piece)?;
    }
    file.set_len(len)?;
    Ok(())
}

/// Writes `count` files of `len` bytes each, 100 to a directory.
pub(super) fn tree(folder: &Path, count: usize, len: usize) -> Result<()> {
    for number in 0..count {
        let directory = folder.join(format!("d{:03}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory)?;
        }
        file(
            &directory.join(format!("f{number:05}.txt")),
            number as u64,
            len,
        )?;
    }
    Ok(())
}
