//! Brings layers of images into the store: each blob is downloaded, verified, decompressed and
//! indexed in one pass, several at once.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use distribution::Repository;
use layer::apply::{Applied, Expected, Limits};
use oci::{Descriptor, DiffId, Reference};
use store::{LayerId, Store, TarIdentity};

use crate::cancel::Cancel;
use crate::error::StepError;
use crate::event::{EventKind, Events, VertexDigest};
use crate::net::Net;

/// Pieces that may wait between the network and the decompressor.
const QUEUE: usize = 64;
/// Bytes between two progress events of one layer.
const PROGRESS: u64 = 1 << 20;

/// What the origin of a layer that an OCI layout has begins with.
const LAYOUT: &str = "oci-layout://";

/// A layer that has to be downloaded.
#[derive(Clone, Debug)]
pub(crate) struct RemoteLayer {
    /// Digest of its tar, from the image's config.
    pub(crate) diff_id: DiffId,
    /// Its blob, from the image's manifest.
    pub(crate) descriptor: Descriptor,
    /// Who has it, as the store wrote it down; the first is asked first.
    pub(crate) repositories: Vec<String>,
    /// The step that progress is shown under.
    pub(crate) step: Option<VertexDigest>,
}

impl RemoteLayer {
    fn id(&self) -> LayerId {
        LayerId::shared(self.diff_id)
    }
}

/// How the store writes down that a registry has a layer.
pub(crate) fn registry_origin(reference: &Reference) -> String {
    reference.name()
}

/// How the store writes down that an OCI layout has a layer: where it is, whatever directory a
/// later build runs in, and with `%` and two digits for each byte that is no text.
pub(crate) fn layout_origin(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut origin = String::from(LAYOUT);
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        origin.push_str(&chunk.valid().replace('%', "%25"));
        origin.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02x}")));
    }
    origin
}

/// The OCI layout that an origin means, if it is one.
fn layout_path(origin: &str) -> Option<PathBuf> {
    let mut parts = origin.strip_prefix(LAYOUT)?.split('%');
    let mut path = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (byte, rest) = part.split_at_checked(2)?;
        path.push(u8::from_str_radix(byte, 16).ok()?);
        path.extend_from_slice(rest.as_bytes());
    }
    Some(PathBuf::from(OsString::from_vec(path)))
}

/// Whether a place of layers is an OCI layout of this machine.
pub(crate) fn is_layout(origin: &str) -> bool {
    origin.starts_with(LAYOUT)
}

/// Downloads on behalf of one call of the engine.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) net: Arc<Net>,
    pub(crate) events: Events,
    pub(crate) cancel: Cancel,
}

impl Fetcher {
    /// Brings layers in, all at once, and waits for them.
    pub(crate) fn fetch(&self, store: &Store, layers: &[RemoteLayer]) -> Result<(), StepError> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = layers
                .iter()
                .map(|layer| scope.spawn(move || self.fetch_one(store, layer)))
                .collect();
            let results = threads.into_iter().map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(StepError::refused("a download ended in a panic")))
            });
            // Wait for all of them, report the first that failed.
            results.fold(Ok(()), Result::and)
        })
    }

    /// Brings a blob in as it is.
    pub(crate) fn fetch_blob(
        &self,
        store: &Store,
        descriptor: &Descriptor,
        repositories: &[String],
    ) -> Result<PathBuf, StepError> {
        let failed = || format!("download {}", descriptor.digest);
        let repository = self.repository(&descriptor.digest.to_string(), repositories)?;
        let mut writer = store
            .blob_writer(Some(&descriptor.digest))
            .map_err(StepError::failed(failed()))?;
        self.net
            .wait(repository.fetch_blob_to(descriptor, &mut |piece| writer.write_all(&piece)))
            .map_err(StepError::failed(failed()))?;
        Ok(writer.commit().map_err(StepError::failed(failed()))?.path)
    }

    fn fetch_one(&self, store: &Store, layer: &RemoteLayer) -> Result<(), StepError> {
        let failed = || format!("download layer {}", layer.descriptor.digest);
        let cancel = self.cancel.clone();
        let flight = store
            .flight(&format!("layer {}", layer.id()), &|| cancel.is_cancelled())
            .map_err(StepError::failed(failed()))?;
        if store
            .layer(layer.id())
            .map_err(StepError::failed(failed()))?
            .is_some()
        {
            return Ok(());
        }
        let draft = store.layer_draft().map_err(StepError::failed(failed()))?;
        let tar = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(draft.tar())
            .map_err(StepError::failed(failed()))?;
        let applied = match store
            .blob(&layer.descriptor.digest)
            .map_err(StepError::failed(failed()))?
        {
            Some(blob) => {
                let blob = File::open(&blob.path).map_err(StepError::failed(failed()))?;
                apply(blob, &tar, layer)?
            }
            None => self.download(store, layer, &tar)?,
        };
        let index = File::create_new(draft.index()).map_err(StepError::failed(failed()))?;
        layer::erofs::write_index(&applied.index, applied.stored_len, &index)
            .map_err(StepError::failed(failed()))?;
        draft
            .commit_shared(TarIdentity {
                diff_id: layer.diff_id,
                len: applied.tar_len,
            })
            .map_err(StepError::failed(failed()))?;
        drop(flight);
        Ok(())
    }

    /// Downloads the blob into the store and applies it on the way.
    fn download(
        &self,
        store: &Store,
        layer: &RemoteLayer,
        tar: &File,
    ) -> Result<Applied, StepError> {
        let failed = || format!("download layer {}", layer.descriptor.digest);
        let repository =
            self.repository(&layer.descriptor.digest.to_string(), &layer.repositories)?;
        let mut blob = store
            .blob_writer(Some(&layer.descriptor.digest))
            .map_err(StepError::failed(failed()))?;
        let (sender, receiver) = sync_channel(QUEUE);
        let (applied, fetched) = std::thread::scope(|scope| {
            let applying = scope.spawn(move || {
                apply(
                    Pieces {
                        receiver,
                        rest: bytes::Bytes::new(),
                    },
                    tar,
                    layer,
                )
            });
            let fetched = self
                .net
                .wait(self.stream(&repository, layer, &mut blob, sender));
            (applying.join(), fetched)
        });
        // What the network says comes first: a broken download also breaks the archive.
        fetched?;
        let applied = applied
            .unwrap_or_else(|_| Err(StepError::refused("reading a layer ended in a panic")))?;
        blob.commit().map_err(StepError::failed(failed()))?;
        Ok(applied)
    }

    /// The first repository that may be asked.
    fn repository(&self, what: &str, repositories: &[String]) -> Result<Repository, StepError> {
        let failed = || format!("find {what}");
        let nobody = || StepError::refused(format!("nobody is known to have {what}"));
        let name = repositories.first().ok_or_else(nobody)?;
        if let Some(path) = layout_path(name) {
            return Repository::layout(&path).map_err(StepError::failed(failed()));
        }
        let reference: Reference = name.parse().map_err(StepError::failed(failed()))?;
        self.net
            .client()
            .repository(&reference)
            .map_err(StepError::failed(failed()))
    }

    async fn stream(
        &self,
        repository: &Repository,
        layer: &RemoteLayer,
        blob: &mut store::BlobWriter,
        sender: SyncSender<bytes::Bytes>,
    ) -> Result<(), StepError> {
        let failed = || format!("download layer {}", layer.descriptor.digest);
        let mut reader = repository.fetch_blob(&layer.descriptor);
        let (mut done, mut shown) = (0, 0);
        while let Some(piece) = reader.next().await.map_err(StepError::failed(failed()))? {
            if self.cancel.is_cancelled() {
                return Err(StepError::Cancelled);
            }
            blob.write_all(&piece)
                .map_err(StepError::failed(failed()))?;
            done += piece.len() as u64;
            if done - shown >= PROGRESS || done == layer.descriptor.size {
                shown = done;
                self.progress(layer, done);
            }
            // The other end is gone when the archive is damaged; its error says so.
            if sender.send(piece).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn progress(&self, layer: &RemoteLayer, done: u64) {
        if let Some(step) = layer.step {
            let item = layer.descriptor.digest.to_string();
            self.events.send(EventKind::Transfer {
                step,
                item,
                done,
                total: Some(layer.descriptor.size),
            });
        }
    }
}

fn apply(blob: impl Read + Send, tar: &File, layer: &RemoteLayer) -> Result<Applied, StepError> {
    let expected = Expected {
        blob: Some(layer.descriptor.digest),
        diff_id: Some(layer.diff_id),
    };
    layer::apply::apply(blob, tar, expected, &Limits::default()).map_err(StepError::failed(
        format!("unpack layer {}", layer.descriptor.digest),
    ))
}

/// The pieces of a download as something to read.
struct Pieces {
    receiver: Receiver<bytes::Bytes>,
    rest: bytes::Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.recv() {
                Ok(piece) => self.rest = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn origins_of_layouts() {
        for (path, origin) in [
            (&b"/a b/c"[..], "oci-layout:///a b/c"),
            (b"/\xc3\xa9", "oci-layout:///\u{e9}"),
            (b"/100%/%41", "oci-layout:///100%25/%2541"),
            (b"/n\xff/x", "oci-layout:///n%ff/x"),
        ] {
            let path = Path::new(OsStr::from_bytes(path));
            assert_eq!(layout_origin(path), origin);
            assert_eq!(layout_path(origin).as_deref(), Some(path));
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(
            layout_origin(Path::new("x")),
            layout_origin(&here.join("x"))
        );
        for none in [
            "docker.io/library/x",
            "oci-layout:///a%zz",
            "oci-layout:///a%f",
        ] {
            assert_eq!(layout_path(none), None, "{none}");
        }
    }
}
