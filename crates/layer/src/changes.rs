//! Lists of changes: in memory, or compact and as long as the disk allows.
//!
//! A list is read as often as somebody needs it, from its beginning; nobody holds all of it.

use crate::codec::{self, Fields};
use crate::model::{Change, Content, Data, RelPath, View};
use crate::spool::{Scratch, Spool, Spooler};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// A list that is being read.
pub type ReadChanges<'a> = Box<dyn Iterator<Item = io::Result<(RelPath, Change)>> + Send + 'a>;

/// The changes of a layer, sorted by path.
pub trait ChangeList: Sync {
    /// Reads the list from its beginning. An item is an error when it cannot be read; nothing
    /// follows it.
    fn read(&self) -> ReadChanges<'_>;
}

impl ChangeList for [(RelPath, Change)] {
    fn read(&self) -> ReadChanges<'_> {
        Box::new(self.iter().cloned().map(Ok))
    }
}

impl<const N: usize> ChangeList for [(RelPath, Change); N] {
    fn read(&self) -> ReadChanges<'_> {
        self.as_slice().read()
    }
}

impl ChangeList for Vec<(RelPath, Change)> {
    fn read(&self) -> ReadChanges<'_> {
        self.as_slice().read()
    }
}

/// A compact list of changes: some eighty bytes each, in a temporary file when there are many.
/// Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    spool: Spool,
    sources: Arc<Sources>,
    len: usize,
}

/// Where the bytes of files come from. Few: views, archives, here-documents.
#[derive(Default)]
struct Sources {
    views: Vec<Arc<dyn View>>,
    files: Vec<Arc<File>>,
    inline: Vec<Arc<[u8]>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Changes {
    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All changes, in memory.
    ///
    /// # Errors
    /// When the list is in a temporary file that cannot be read.
    pub fn to_vec(&self) -> io::Result<Vec<(RelPath, Change)>> {
        self.read().collect()
    }
}

impl ChangeList for Changes {
    fn read(&self) -> ReadChanges<'_> {
        let blocks = (0..self.spool.blocks()).flat_map(|number| {
            let opened = Block::open(self, number);
            let (block, error) = match opened {
                Ok(block) => (Some(block), None),
                Err(error) => (None, Some(Err(error))),
            };
            block.into_iter().flatten().chain(error)
        });
        let mut failed = false;
        Box::new(blocks.take_while(move |change| {
            let before = failed;
            failed |= change.is_err();
            !before
        }))
    }
}

/// One block, as far as it was read.
struct Block<'a> {
    sources: &'a Sources,
    bytes: Arc<[u8]>,
    at: usize,
    path: Vec<u8>,
    source_path: Vec<u8>,
}

impl<'a> Block<'a> {
    fn open(changes: &'a Changes, number: usize) -> io::Result<Block<'a>> {
        Ok(Block {
            sources: &changes.sources,
            bytes: changes.spool.block(number)?,
            at: 0,
            path: Vec::new(),
            source_path: Vec::new(),
        })
    }

    fn change(&mut self) -> io::Result<(RelPath, Change)> {
        let mut fields = Fields::new(&self.bytes[self.at..]);
        let path = fields.path(&mut self.path)?;
        let change = match fields.byte()? {
            WHITEOUT => Change::Whiteout,
            LINK => Change::Link {
                to: RelPath::new(fields.bytes()?).map_err(|_| codec::damaged())?,
            },
            tag => Change::Put {
                node: fields.node()?,
                opaque: tag == OPAQUE,
                data: data(&mut fields, self.sources, &mut self.source_path)?,
            },
        };
        self.at = self.bytes.len() - fields.rest().len();
        Ok((path, change))
    }
}

impl Iterator for Block<'_> {
    type Item = io::Result<(RelPath, Change)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let change = self.change();
        if change.is_err() {
            self.at = self.bytes.len();
        }
        Some(change)
    }
}

const WHITEOUT: u8 = 0;
const LINK: u8 = 1;
const PUT: u8 = 2;
const OPAQUE: u8 = 3;

const NO_DATA: u8 = 0;
const INLINE: u8 = 1;
const OPEN: u8 = 2;
const IN_VIEW: u8 = 3;
const EMPTY: u8 = 4;

fn data(
    fields: &mut Fields<'_>,
    sources: &Sources,
    source_path: &mut Vec<u8>,
) -> io::Result<Option<Data>> {
    fn get<T: Clone>(of: &[T], number: usize) -> io::Result<T> {
        of.get(number).cloned().ok_or_else(codec::damaged)
    }
    Ok(Some(match fields.byte()? {
        NO_DATA => return Ok(None),
        EMPTY => Data::Inline(Arc::default()),
        INLINE => Data::Inline(get(&sources.inline, fields.len()?)?),
        OPEN => Data::Open(Content {
            file: get(&sources.files, fields.len()?)?,
            offset: fields.number()?,
            len: fields.number()?,
        }),
        IN_VIEW => Data::InView {
            view: get(&sources.views, fields.len()?)?,
            path: fields.path(source_path)?,
            expect: fields.digest()?,
        },
        _ => return Err(codec::damaged()),
    }))
}

/// Writes a list of changes.
pub(crate) struct ChangeWriter {
    spooler: Spooler,
    sources: Sources,
    path: Vec<u8>,
    source_path: Vec<u8>,
    len: usize,
}

/// What begins when a block does.
struct Previous<'a> {
    path: &'a mut Vec<u8>,
    source_path: &'a mut Vec<u8>,
}

impl ChangeWriter {
    pub(crate) fn new(scratch: &Scratch) -> ChangeWriter {
        ChangeWriter {
            spooler: Spooler::new(scratch),
            sources: Sources::default(),
            path: Vec::new(),
            source_path: Vec::new(),
            len: 0,
        }
    }

    /// Appends a change, which comes after those before it.
    ///
    /// # Errors
    /// When the list is long and the temporary file cannot be written.
    pub(crate) fn push(&mut self, path: &RelPath, change: &Change) -> io::Result<()> {
        self.len += 1;
        let sources = &mut self.sources;
        let previous = Previous {
            path: &mut self.path,
            source_path: &mut self.source_path,
        };
        self.spooler.push(|out, begins| {
            if begins {
                previous.path.clear();
                previous.source_path.clear();
            }
            codec::put_path(out, path.as_bytes(), previous.path);
            match change {
                Change::Whiteout => out.push(WHITEOUT),
                Change::Link { to } => {
                    out.push(LINK);
                    codec::put_bytes(out, to.as_bytes());
                }
                Change::Put { node, opaque, data } => {
                    out.push(if *opaque { OPAQUE } else { PUT });
                    codec::put_node(out, node);
                    put_data(out, data.as_ref(), sources, previous.source_path);
                }
            }
        })
    }

    /// The list is complete.
    ///
    /// # Errors
    /// As for [`ChangeWriter::push`].
    pub(crate) fn finish(self) -> io::Result<Changes> {
        Ok(Changes {
            spool: self.spooler.finish()?,
            sources: Arc::new(self.sources),
            len: self.len,
        })
    }
}

fn put_data(
    out: &mut Vec<u8>,
    data: Option<&Data>,
    sources: &mut Sources,
    source_path: &mut Vec<u8>,
) {
    match data {
        None => out.push(NO_DATA),
        Some(Data::Inline(bytes)) if bytes.is_empty() => out.push(EMPTY),
        Some(Data::Inline(bytes)) => {
            out.push(INLINE);
            codec::put_number(out, sources.inline.len() as u64);
            sources.inline.push(Arc::clone(bytes));
        }
        Some(Data::Open(Content { file, offset, len })) => {
            out.push(OPEN);
            codec::put_number(out, number_of(&mut sources.files, file));
            codec::put_number(out, *offset);
            codec::put_number(out, *len);
        }
        Some(Data::InView { view, path, expect }) => {
            out.push(IN_VIEW);
            codec::put_number(out, number_of(&mut sources.views, view));
            codec::put_path(out, path.as_bytes(), source_path);
            codec::put_digest(out, *expect);
        }
    }
}

/// The number of a source, which is added when it is new.
fn number_of<T: ?Sized>(all: &mut Vec<Arc<T>>, source: &Arc<T>) -> u64 {
    let known = all.iter().rposition(|known| Arc::ptr_eq(known, source));
    let number = known.unwrap_or_else(|| {
        all.push(Arc::clone(source));
        all.len() - 1
    });
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::{MemView, scratch};
    use crate::{ContentDigest, Kind, Metadata, Node};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn put(kind: Kind, opaque: bool, data: Option<Data>) -> Change {
        let (metadata, links) = (Metadata::default(), None);
        Change::Put {
            node: Node {
                kind,
                metadata,
                links,
            },
            opaque,
            data,
        }
    }

    /// Writes the changes, and compares what is read with them, twice.
    #[track_caller]
    fn check(changes: &[(RelPath, Change)]) {
        let mut writer = ChangeWriter::new(&scratch());
        for (path, change) in changes {
            writer.push(path, change).unwrap();
        }
        let list = writer.finish().unwrap();
        assert_eq!(list.len(), changes.len());
        assert_eq!(list.is_empty(), changes.is_empty());
        for _ in 0..2 {
            let mut read = list.read();
            for expect in changes {
                let found = read.next().unwrap().unwrap();
                assert_eq!(format!("{found:?}"), format!("{expect:?}"));
                assert_eq!(expectation(&found.1), expectation(&expect.1));
            }
            assert!(read.next().is_none());
        }
    }

    /// The digest that the bytes must have, which `Debug` does not tell.
    fn expectation(change: &Change) -> Option<ContentDigest> {
        match change {
            Change::Put {
                data: Some(Data::InView { expect, .. }),
                ..
            } => *expect,
            _ => None,
        }
    }

    #[test]
    fn changes_of_every_kind_come_back() {
        let views: [Arc<dyn View>; 2] = [Arc::new(MemView::new()), Arc::new(MemView::new())];
        let in_view = |view: usize, name: &str, expect| Data::InView {
            view: Arc::clone(&views[view]),
            path: path(name),
            expect,
        };
        let open = Data::Open(Content {
            file: Arc::new(tempfile::tempfile().unwrap()),
            offset: 512,
            len: 7,
        });
        let file = |size| Kind::File { size };
        check(&[]);
        check(&[
            (RelPath::root(), put(Kind::Directory, true, None)),
            (path("a"), put(Kind::Directory, false, None)),
            (
                path("a/empty"),
                put(file(0), false, Some(Data::Inline([].into()))),
            ),
            (
                path("a/inline"),
                put(file(2), false, Some(Data::Inline(b"hi".as_slice().into()))),
            ),
            (path("a/open"), put(file(7), false, Some(open))),
            (
                path("a/seen"),
                put(file(1), false, Some(in_view(0, "x/y", None))),
            ),
            (path("a/twin"), Change::Link { to: path("a/seen") }),
            (
                path("b"),
                put(
                    file(1),
                    false,
                    Some(in_view(1, "x/z", Some(ContentDigest([7; 32])))),
                ),
            ),
            (path("gone"), Change::Whiteout),
        ]);
    }

    #[test]
    fn long_lists_come_back() {
        let name = |number: u32| {
            path(&format!(
                "directory{:03}/{number:07}{}",
                number / 999,
                "x".repeat(99)
            ))
        };
        let changes: Vec<_> = (0..90_000).map(|n| (name(n), Change::Whiteout)).collect();
        let mut writer = ChangeWriter::new(&scratch());
        for (path, change) in &changes {
            writer.push(path, change).unwrap();
        }
        let list = writer.finish().unwrap();
        let read: Vec<_> = list.to_vec().unwrap();
        assert!(
            read.iter()
                .map(|(path, _)| path)
                .eq(changes.iter().map(|(path, _)| path))
        );
    }
}
