//! Blobs: their bytes pinned, and read by others.

use layer::compress::{BlockCache, BlockKey, CompressError, Compression, Deflated, compress};
use layer::tar::{Header, TypeFlag, encode};
use oci::{DiffId, Digest};
use proptest::prelude::*;
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

fn compressed(bytes: &[u8], compression: Compression, cache: Option<&dyn BlockCache>) -> Vec<u8> {
    let (tar, diff_id) = stored(bytes);
    let mut blob = Vec::new();
    let len = bytes.len() as u64;
    compress(&tar, len, Some(diff_id), compression, cache, &mut blob).unwrap();
    blob
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
        let plain = compressed(&bytes, Compression::None, None);
        assert!(plain == bytes);
        for level in [0, 1, 2, 6, 9] {
            let blob = compressed(&bytes, Compression::Gzip { level }, None);
            assert!(gunzip(&blob) == bytes);
        }
        let blob = compressed(&bytes, Compression::ZSTD, None);
        assert!(zstd::stream::decode_all(blob.as_slice()).unwrap() == bytes);
    }
}

/// The bytes of our blobs, pinned: with other ones a layer would be pushed twice. When a new
/// version of a compressor changes them, `WRITER` in `compress/gzip.rs` must change too.
#[test]
fn golden_blobs() {
    let bytes = corpus(3 * MIB);
    let digest = |compression| Digest::sha256(compressed(&bytes, compression, None)).to_string();
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
    // Whose headers decide about cuts.
    let files: Vec<Vec<u8>> = bytes.chunks(1_000_000).map(<[u8]>::to_vec).collect();
    let blob = compressed(&archive(1_000_000_000, &files), Compression::GZIP, None);
    let golden = "sha256:3847e7b9d60eb6b71c5feafff5bbeacf31170aff79371c41a36f961cc81563f0";
    assert_eq!(Digest::sha256(&blob).to_string(), golden);
    // Whose headers have blanks.
    let files: Vec<Vec<u8>> = bytes.chunks(1_000).map(<[u8]>::to_vec).collect();
    let blob = compressed(&small_files(1_000_000_000, &files), Compression::GZIP, None);
    let golden = "sha256:8794ef72b5fe5362dc9246e15e3562c41c73ba993eefde06844e9cdc5d332f01";
    assert_eq!(Digest::sha256(&blob).to_string(), golden);
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
    let blob = compressed(&tar.stdout, Compression::GZIP, None);
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
        let result = compress(&tar, len, Some(other), compression, None, &mut Vec::new());
        assert!(matches!(result, Err(CompressError::Corrupt { .. })));
    }
    for compression in [
        Compression::Gzip { level: 10 },
        Compression::Zstd { level: 23 },
    ] {
        let result = compress(&tar, 1, None, compression, None, &mut Vec::new());
        assert!(matches!(result, Err(CompressError::Level { .. })));
    }
}

#[derive(Default)]
struct Memory {
    blocks: Mutex<BTreeMap<BlockKey, Deflated>>,
    hits: AtomicUsize,
    /// Where the blocks of the last blob begin and end.
    places: Mutex<Vec<(u64, u64)>>,
}

impl BlockCache for Memory {
    fn get(&self, key: &BlockKey) -> Option<Deflated> {
        let found = self.blocks.lock().unwrap().get(key).cloned();
        self.hits
            .fetch_add(usize::from(found.is_some()), Ordering::Relaxed);
        found
    }

    fn put(&self, key: &BlockKey, offset: u64, block: &Deflated) {
        let end = offset + block.bytes.len() as u64;
        self.places.lock().unwrap().push((offset, end));
        self.blocks.lock().unwrap().insert(*key, block.clone());
    }
}

impl Memory {
    /// Compresses with this cache, to what it would be without. Returns how many blocks were
    /// compressed.
    #[track_caller]
    fn check(&self, bytes: &[u8], compression: Compression) -> usize {
        self.places.lock().unwrap().clear();
        self.hits.store(0, Ordering::Relaxed);
        let blob = compressed(bytes, compression, Some(self));
        assert!(blob == compressed(bytes, compression, None));
        let places = std::mem::take(&mut *self.places.lock().unwrap());
        assert!(places.is_sorted());
        let blocks = self.blocks.lock().unwrap();
        for &(start, end) in &places {
            let block = &blob[start as usize..end as usize];
            assert!(blocks.values().any(|known| known.bytes == block));
        }
        drop(blocks);
        places.len() - self.hits.load(Ordering::Relaxed)
    }
}

#[test]
fn blocks_are_compressed_once() {
    let cache = Memory::default();
    let mut bytes = corpus(8 * MIB);
    let all = cache.check(&bytes, Compression::GZIP);
    assert!(all > 8, "{all} blocks");
    bytes.splice(4 * MIB..4 * MIB, *b"inserted");
    let new = cache.check(&bytes, Compression::GZIP);
    assert!((1..=3).contains(&new), "{new} of {all}");
    // Another level has other blocks.
    let other = cache.check(&bytes, Compression::Gzip { level: 6 });
    assert!(other >= all, "{other} of {all}");
}

/// An archive of files, and a small one before each, with what the time says.
fn archive(mtime: i64, files: &[Vec<u8>]) -> Vec<u8> {
    let time = mtime.to_string().into_bytes();
    let names = (0..files.len()).map(|number| format!("dir/{number}"));
    let both = names.zip(files).flat_map(|(name, file)| {
        let small = (format!("{name}-small"), &time, mtime);
        [small, (name, file, mtime)]
    });
    tar_of(both)
}

/// An archive of files with these paths, contents and times.
fn tar_of<'a>(files: impl IntoIterator<Item = (String, &'a Vec<u8>, i64)>) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, bytes, mtime) in files {
        let header = Header {
            path: path.as_bytes(),
            type_flag: TypeFlag::File,
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: bytes.len() as u64,
            mtime: layer::Time {
                seconds: mtime,
                nanos: 0,
            },
            device: (0, 0),
            xattrs: &layer::Xattrs::new(),
        };
        tar.extend(encode(&header).unwrap());
        tar.extend(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

#[test]
fn other_headers_leave_the_blocks_of_large_files_alone() {
    let cache = Memory::default();
    let bytes = corpus(12 * MIB);
    let mut files: Vec<Vec<u8>> = bytes.chunks(3_000_001).map(<[u8]>::to_vec).collect();
    let all = cache.check(&archive(1_000_000_000, &files), Compression::GZIP);
    assert_eq!(
        cache.check(&archive(1_234_567_890, &files), Compression::GZIP),
        0
    );
    files[2].extend(b"changed");
    let new = cache.check(&archive(1_333_333_333, &files), Compression::GZIP);
    assert!((1..=2).contains(&new), "{new} of {all}");
}

/// An archive of small files. Some have paths that want an extended header, which has another
/// time, and some a time of their own.
fn small_files(mtime: i64, files: &[Vec<u8>]) -> Vec<u8> {
    tar_of(files.iter().enumerate().map(|(number, file)| {
        let long = if number % 7 == 0 { 120 } else { 5 };
        let own = if number % 11 == 1 { 77 } else { mtime };
        (format!("dir/{number:0long$}"), file, own)
    }))
}

#[test]
fn blocks_of_small_files_are_the_same_under_another_time() {
    let cache = Memory::default();
    let bytes = corpus(4 * MIB);
    let mut files: Vec<Vec<u8>> = bytes.chunks(2_345).map(<[u8]>::to_vec).collect();
    let all = cache.check(&small_files(946_684_800, &files), Compression::GZIP);
    assert!(all > 5, "{all} blocks");
    let time = 950_000_123;
    assert_eq!(
        cache.check(&small_files(time, &files), Compression::GZIP),
        0
    );
    files[1000].extend(b"changed");
    let new = cache.check(&small_files(960_000_321, &files), Compression::GZIP);
    assert!((1..=2).contains(&new), "{new} of {all}");
    // Headers are no blanks where their times say nothing about the layer's.
    let other = cache.check(&small_files(-1, &files), Compression::GZIP);
    assert!(other > 5, "{other} of {all}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the cache has, the bytes are the same, and they are the tar's.
    #[test]
    fn any_tar_under_any_time(
        lengths in proptest::collection::vec(0_usize..9000, 10..40),
        kinds in proptest::collection::vec(0_usize..4, 40),
        times in proptest::array::uniform3(0_i64..1 << 33),
        level in 0_u32..10,
    ) {
        let words = corpus(40_000);
        let noise: Vec<u8> = (0..40_000_u64)
            .map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 51) as u8)
            .collect();
        let headers = small_files(times[0], &vec![b"0123".to_vec(); 40]);
        let marks: Vec<u8> = (0xc0..=0xff).cycle().take(10_000).collect();
        let contents = [words, noise, headers, marks];
        let files: Vec<Vec<u8>> = lengths
            .iter()
            .zip(kinds)
            .map(|(&len, kind)| contents[kind][len / 2..len].to_vec())
            .collect();
        let cache = Memory::default();
        let compression = Compression::Gzip { level };
        for (number, time) in times.into_iter().enumerate() {
            let tar = small_files(time, &files);
            let new = cache.check(&tar, compression);
            prop_assert!(new == 0 || number == 0, "{} new", new);
            prop_assert!(gunzip(&compressed(&tar, compression, None)) == tar);
        }
    }
}
