//! Blobs: their bytes pinned, and read by others.

use layer::compress::{BlockCache, BlockKey, CompressError, Compressed, Compression, compress};
use oci::{DiffId, Digest};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that compress somewhat, the same everywhere.
fn corpus(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let words: Vec<Vec<u8>> = (0..2000)
        .map(|_| {
            (0..2 + next() % 9)
                .map(|_| b'a' + (next() % 26) as u8)
                .collect()
        })
        .collect();
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        // Some words are likelier than others.
        let pick = next() % 2000 * (next() % 2000) / 2000;
        bytes.extend_from_slice(&words[pick]);
        bytes.push(b' ');
    }
    bytes.truncate(len);
    bytes
}

fn stored(bytes: &[u8]) -> (File, DiffId) {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    // What is stored behind the tar is none of the blob.
    file.write_all(b"tail").unwrap();
    (file, DiffId::new(Digest::sha256(bytes)))
}

fn compressed(
    bytes: &[u8],
    compression: Compression,
    cache: Option<&dyn BlockCache>,
) -> (Compressed, Vec<u8>) {
    let (tar, diff_id) = stored(bytes);
    let mut blob = Vec::new();
    let len = bytes.len() as u64;
    let result = compress(&tar, len, diff_id, compression, cache, &mut blob).unwrap();
    assert_eq!(result.size, blob.len() as u64);
    assert_eq!(result.digest, Digest::sha256(&blob));
    (result, blob)
}

fn gunzip(blob: &[u8]) -> Vec<u8> {
    // One member only: readers that stop at its end must see everything.
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(blob)
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

const MIB: usize = 1 << 20;

#[test]
fn blobs_are_what_was_compressed() {
    let noise: Vec<u8> = (0..3 * MIB as u64)
        .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51) as u8)
        .collect();
    for bytes in [
        Vec::new(),
        b"x".to_vec(),
        corpus(5 * MIB),
        vec![0; 9 * MIB],
        noise,
    ] {
        let (_, plain) = compressed(&bytes, Compression::None, None);
        assert!(plain == bytes);
        for level in [0, 1, 2, 6, 9] {
            let (_, blob) = compressed(&bytes, Compression::Gzip { level }, None);
            assert!(gunzip(&blob) == bytes);
        }
        let (_, blob) = compressed(&bytes, Compression::ZSTD, None);
        assert!(zstd::stream::decode_all(blob.as_slice()).unwrap() == bytes);
    }
}

/// The bytes of our blobs, pinned: with other ones a layer would be pushed twice. When a new
/// version of a compressor changes them, `WRITER` in `compress/gzip.rs` must change too.
#[test]
fn golden_blobs() {
    let bytes = corpus(3 * MIB);
    let digest = |compression| compressed(&bytes, compression, None).0.digest.to_string();
    let found: Vec<String> = [
        Compression::Gzip { level: 1 },
        Compression::GZIP,
        Compression::Gzip { level: 4 },
        Compression::Gzip { level: 6 },
        Compression::Gzip { level: 9 },
        Compression::Zstd { level: 1 },
        Compression::Zstd { level: 3 },
        Compression::Zstd { level: 9 },
    ]
    .map(digest)
    .to_vec();
    let golden = [
        "sha256:737978e3880076cb728b524cda904885fd9cea4a83a8199f1f51020152286bca",
        "sha256:25c14b2370b52a1b83463ee3fdedd8584c18a2a26835f54de27626d4e37cb584",
        "sha256:01811764898933feedb147fdc3d26dce4c4651366e8268e07c99824eb6d4ee91",
        "sha256:b6da41f78a70361704bf7127c359da8e1035f8d16523e4a7b3791653bbe4997c",
        "sha256:26aa8fdf596c94e0718b2993ea07924bb66a69ecd98891315f88a9ad469d9006",
        "sha256:2b633010b2699c24f552f55f358cb2ff905876afb02e82840a7f6b2c6e3c67ab",
        "sha256:bfce1e4ff9459868ecb895da64edd79682ca59f4c88fb833a796faf2fc3d3507",
        "sha256:2d9173a529542f7271fd4d61e8692ab1af365f002cca62aa2881c674f7f4a075",
    ];
    assert_eq!(found, golden);
}

/// What every usual reader of layers makes of the member: all of it, and not only its first block.
#[test]
fn other_readers_take_the_member() {
    let directory = tempfile::tempdir().unwrap();
    let content = corpus(2 * MIB);
    std::fs::write(directory.path().join("words"), &content).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory.path()).args(["-c", "words"]);
    let tar = tar.output().unwrap();
    assert!(tar.status.success());
    let (_, blob) = compressed(&tar.stdout, Compression::GZIP, None);
    let path = directory.path().join("blob");
    std::fs::write(&path, &blob).unwrap();
    let check = |program: &str, arguments: &[&str], expected: &[u8]| {
        let mut reader = Command::new(program);
        let stdin = File::open(&path).unwrap();
        let output = reader.args(arguments).stdin(stdin).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program}: {stderr}");
        let len = output.stdout.len();
        assert!(output.stdout == expected, "{program} wrote {len} bytes");
    };
    check("gzip", &["-t"], b"");
    check("gzip", &["-dc"], &tar.stdout);
    check("pigz", &["-dc"], &tar.stdout);
    check("/bin/busybox", &["gunzip", "-c"], &tar.stdout);
    check("/bin/busybox", &["tar", "-xzO"], &content);
    check("tar", &["-xzO"], &content);
    check("bsdtar", &["-xOf-"], &content);
    let python = "import gzip, sys; sys.stdout.buffer.write(gzip.open(sys.stdin.buffer).read())";
    check("python3", &["-c", python], &tar.stdout);
    // This one knows members only as far as the end of the first.
    let stream = "import sys, tarfile
for member in (archive := tarfile.open(fileobj=sys.stdin.buffer, mode='r|gz')):
    sys.stdout.buffer.write(archive.extractfile(member).read())";
    check("python3", &["-c", stream], &content);
}

#[test]
fn a_damaged_tar_makes_no_blob() {
    let bytes = corpus(MIB);
    let (tar, _) = stored(&bytes);
    let other = DiffId::new(Digest::sha256("other"));
    for compression in [Compression::None, Compression::GZIP, Compression::ZSTD] {
        let len = bytes.len() as u64;
        let result = compress(&tar, len, other, compression, None, &mut Vec::new());
        assert!(matches!(result, Err(CompressError::Corrupt { .. })));
    }
    for compression in [
        Compression::Gzip { level: 10 },
        Compression::Zstd { level: 23 },
    ] {
        let result = compress(&tar, 1, other, compression, None, &mut Vec::new());
        assert!(matches!(result, Err(CompressError::Level { .. })));
    }
}

#[derive(Default)]
struct Memory {
    blocks: Mutex<BTreeMap<BlockKey, Vec<u8>>>,
    hits: AtomicUsize,
}

impl BlockCache for Memory {
    fn get(&self, key: &BlockKey) -> Option<Vec<u8>> {
        let found = self.blocks.lock().unwrap().get(key).cloned();
        self.hits
            .fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn put(&self, key: &BlockKey, block: &[u8]) {
        self.blocks.lock().unwrap().insert(*key, block.to_vec());
    }
}

#[test]
fn blocks_are_compressed_once() {
    let cache = Memory::default();
    let mut bytes = corpus(8 * MIB);
    compressed(&bytes, Compression::GZIP, Some(&cache));
    let before = cache.blocks.lock().unwrap().len();
    bytes.splice(4 * MIB..4 * MIB, *b"inserted");
    let (with, _) = compressed(&bytes, Compression::GZIP, Some(&cache));
    let (without, _) = compressed(&bytes, Compression::GZIP, None);
    assert_eq!(with, without);
    let new = cache.blocks.lock().unwrap().len() - before;
    assert!(
        new <= 3 && cache.hits.load(Ordering::Relaxed) >= before - 3,
        "{new} of {before}"
    );
    // Another level has other blocks.
    compressed(&bytes, Compression::Gzip { level: 6 }, Some(&cache));
    assert!(cache.blocks.lock().unwrap().len() > before + new);
}
