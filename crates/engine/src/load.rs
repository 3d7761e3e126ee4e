//! Images out of archives: what `docker save` or `-o type=docker` wrote, or an OCI layout.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use layer::compress::{Format, decoder};
use oci::{Digest, Platform, Reference};

use crate::error::BuildError;
use crate::event::Events;
use crate::{Engine, host_platform, resolve};

/// An image that was loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// The name that the archive has for it.
    pub name: Option<Reference>,
}

/// Where an archive is.
#[derive(Debug)]
pub enum Archive {
    /// A file, or the folder of a layout.
    Path(PathBuf),
    /// A stream.
    Stream(File),
}

impl Engine {
    /// Loads every image of an archive, compressed or not, for a platform, this machine's if none
    /// is given.
    ///
    /// # Errors
    /// When it is no archive of images, has none for the platform, or is damaged. Images before the
    /// one that failed are there.
    pub fn load(
        &self,
        archive: &Archive,
        platform: Option<&Platform>,
        events: &Events,
    ) -> Result<Vec<Loaded>, BuildError> {
        let shown = match archive {
            Archive::Path(path) => path.display().to_string(),
            Archive::Stream(_) => "standard input".into(),
        };
        let attempt = || format!("load {shown}");
        let unread = |error: io::Error| BuildError::store(attempt(), error);
        let platform = platform.cloned().unwrap_or_else(host_platform);
        // Images are read in place, which takes a plain file.
        let plain = self.plain(archive).map_err(unread)?;
        let path: &Path = match (&plain, archive) {
            (Some(file), _) => file.path(),
            (None, Archive::Path(path)) => path,
            (None, Archive::Stream(_)) => unreachable!("streams are written to a file"),
        };
        let path = std::path::absolute(path).map_err(unread)?;
        let failed = |error: resolve::ResolveError| BuildError::store(attempt(), error);
        let repository = distribution::Repository::layout(&path).map_err(|e| failed(e.into()))?;
        let layers = self.new_layers(events);
        let mut loaded = Vec::new();
        for (found, name) in repository.images().map_err(|e| failed(e.into()))? {
            let name: Option<Reference> = name.and_then(|name| name.parse().ok());
            let (image, manifest) = resolve::load(
                &self.store,
                &self.net,
                &repository,
                &path,
                &found,
                &platform,
                name.as_ref(),
            )
            .map_err(failed)?;
            let chain: Vec<_> = manifest.layers.iter().map(|layer| layer.id).collect();
            layers
                .ensure(&chain)
                .map_err(|error| BuildError::store(attempt(), error))?;
            loaded.push(Loaded {
                id: image.id(),
                name,
            });
        }
        if loaded.is_empty() {
            return Err(BuildError::request(format!("there is no image in {shown}")));
        }
        self.settle_later();
        Ok(loaded)
    }

    /// A decompressed copy of a stream or of a compressed file; `None` for what can be read as it is.
    fn plain(&self, archive: &Archive) -> io::Result<Option<tempfile::NamedTempFile>> {
        let mut file = match archive {
            Archive::Path(path) if path.is_dir() => return Ok(None),
            Archive::Path(path) => {
                let mut file = File::open(path)?;
                if format(&mut file)?.0 == Format::Plain {
                    return Ok(None);
                }
                file.rewind()?;
                file
            }
            Archive::Stream(file) => file.try_clone()?,
        };
        let (format, start) = format(&mut file)?;
        let whole = BufReader::with_capacity(1 << 16, start.as_slice().chain(file));
        let mut plain =
            tempfile::NamedTempFile::new_in(self.store.scratch().map_err(io::Error::other)?)?;
        io::copy(&mut decoder(format, whole)?, plain.as_file_mut())?;
        Ok(Some(plain))
    }
}

/// How a file is compressed, and the bytes that were read to tell.
fn format(file: &mut File) -> io::Result<(Format, Vec<u8>)> {
    let mut start = Vec::with_capacity(Format::MAGIC);
    file.by_ref()
        .take(Format::MAGIC as u64)
        .read_to_end(&mut start)?;
    Ok((Format::detect(&start), start))
}
