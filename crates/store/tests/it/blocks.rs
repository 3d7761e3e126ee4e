//! Places of compressed blocks.

use std::fs;

use oci::Digest;
use store::{BlockName, BlockPlace};

use crate::fixture::Fixture;

fn block(number: u32) -> (BlockName, BlockPlace) {
    let name = match Digest::sha256(number.to_le_bytes()) {
        Digest::Sha256(name) => name,
        Digest::Sha512(_) => unreachable!("it is a SHA-256"),
    };
    let place = BlockPlace {
        blob: Digest::sha256("blob"),
        offset: u64::from(number) << 33,
        len: number,
        checksum: !number,
        slots: number.to_be_bytes()[2 + number as usize % 3..].into(),
    };
    (name, place)
}

#[test]
fn places_are_remembered_and_the_last_one_counts() {
    let fixture = Fixture::in_memory();
    let store = fixture.open();
    assert!(store.blocks().unwrap().is_empty());
    store.add_blocks(&[block(1), block(2)]).unwrap();
    let (name, mut place) = block(2);
    place.blob = Digest::sha256("another");
    store
        .add_blocks(&[(name, place.clone()), block(3)])
        .unwrap();
    let known = fixture.open().blocks().unwrap();
    assert_eq!(known.len(), 3);
    assert_eq!(known.get(&name), Some(&place));
    let (first, third) = (block(1), block(3));
    assert_eq!(known.get(&first.0), Some(&first.1));
    assert_eq!(known.get(&third.0), Some(&third.1));
}

#[test]
fn the_oldest_places_are_forgotten() {
    let fixture = Fixture::in_memory();
    let store = fixture.open();
    let long = |number| {
        let (name, place) = block(number);
        let slots = vec![number as u8; 16 << 10].into();
        (name, BlockPlace { slots, ..place })
    };
    // As many as are remembered.
    let many: Vec<_> = (0..509).map(long).collect();
    store.add_blocks(&[block(1 << 20), long(1 << 21)]).unwrap();
    store.add_blocks(&many).unwrap();
    // Used again, so it is not the oldest any more.
    store.add_blocks(&many[..1]).unwrap();
    store.add_blocks(&[long(1 << 22)]).unwrap();
    let known = store.blocks().unwrap();
    assert_eq!(known.len(), many.len());
    assert!(!known.contains_key(&block(1 << 21).0));
    assert_eq!(known.get(&many[0].0), Some(&many[0].1));
    assert!(!known.contains_key(&many[1].0));
    assert!(known.contains_key(&many[2].0));
}

#[test]
fn a_damaged_file_is_no_error() {
    let fixture = Fixture::in_memory();
    let store = fixture.open();
    store.add_blocks(&[block(1), block(2)]).unwrap();
    let path = fixture.root().join("blocks/places");
    let whole = fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() - 1], b"", b"something else"] {
        fs::write(&path, bytes).unwrap();
        assert!(store.blocks().unwrap().len() < 2);
        store.add_blocks(&[block(3)]).unwrap();
        assert!(store.blocks().unwrap().contains_key(&block(3).0));
    }
}
