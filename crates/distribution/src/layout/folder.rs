//! A layout in a folder. Blobs are complete before they get their name; the index is replaced,
//! never changed, and by one process at a time.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci::{Digest, Document, Index};

use super::{Content, LayoutError, empty_index};

const MARKER: &str = "oci-layout";
const VERSION: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const INDEX: &str = "index.json";

#[derive(Clone, Debug)]
pub(super) struct Folder {
    root: PathBuf,
}

impl Folder {
    pub(super) fn open(root: &Path) -> Result<Folder, LayoutError> {
        if !root.join(MARKER).is_file() || !root.join(INDEX).is_file() {
            return Err(LayoutError::NotALayout {
                path: root.into(),
                problem: "it has no oci-layout and index.json".into(),
            });
        }
        Ok(Folder { root: root.into() })
    }

    pub(super) fn create(root: &Path) -> Result<Folder, LayoutError> {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs).map_err(io_error("create", &blobs))?;
        let folder = Folder { root: root.into() };
        if !root.join(MARKER).exists() {
            folder.replace(INDEX, Document::new(empty_index()).bytes())?;
            folder.replace(MARKER, VERSION.as_bytes())?;
        }
        Ok(folder)
    }

    pub(super) fn index(&self) -> Result<Document<Index>, LayoutError> {
        let path = self.root.join(INDEX);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        Document::parse(bytes).map_err(|source| LayoutError::Document {
            path: self.root.clone(),
            name: INDEX.into(),
            source,
        })
    }

    pub(super) fn content(&self, digest: &Digest) -> Result<Content, LayoutError> {
        let path = self.blob(digest);
        let file = File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => LayoutError::NoBlob {
                path: self.root.clone(),
                digest: *digest,
            },
            _ => io_error("open", &path)(error),
        })?;
        let length = file.metadata().map_err(io_error("open", &path))?.len();
        Ok(Content::Range {
            file: Arc::new(file),
            offset: 0,
            length,
        })
    }

    pub(super) fn change_index(&self, change: impl FnOnce(&mut Index)) -> Result<(), LayoutError> {
        let path = self.root.join(MARKER);
        let lock = File::open(&path).map_err(io_error("open", &path))?;
        lock.lock().map_err(io_error("lock", &path))?;
        let mut index = self.index()?.into_value();
        change(&mut index);
        self.replace(INDEX, Document::new(index).bytes())
    }

    /// Where to write a blob that will have this digest.
    pub(super) fn writer(&self, digest: &Digest) -> Result<Writer, LayoutError> {
        let path = self.blob(digest);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io_error("create", folder))?;
        }
        Writer::create(path)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
        let mut writer = Writer::create(self.root.join(name))?;
        writer.write(bytes)?;
        writer.commit()
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root
            .join("blobs")
            .join(digest.algorithm())
            .join(digest.hex())
    }
}

/// A file that gets its name when it is complete, and is gone when it does not get there.
pub(super) struct Writer {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Writer {
    fn create(path: PathBuf) -> Result<Writer, LayoutError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let unique = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!(".{name}.{}.{unique}.tmp", std::process::id()));
        let file = File::create_new(&temporary).map_err(io_error("create", &temporary))?;
        Ok(Writer {
            file,
            temporary,
            path,
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), LayoutError> {
        self.file
            .write_all(bytes)
            .map_err(io_error("write", &self.temporary))
    }

    pub(super) fn commit(self) -> Result<(), LayoutError> {
        fs::rename(&self.temporary, &self.path).map_err(io_error("name", &self.path))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Gone already when it was committed.
        drop(fs::remove_file(&self.temporary));
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LayoutError {
    let path = path.to_path_buf();
    move |source| LayoutError::Io {
        action,
        path,
        source,
    }
}
