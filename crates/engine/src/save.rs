//! Images into an archive, as `docker save` writes one: what [`Engine::load`] reads.

use std::fs::File;

use oci::{Digest, Platform, Reference};
use store::Image;

use crate::Engine;
use crate::error::BuildError;
use crate::event::Events;
use crate::export::{layout, shipment};
use crate::request::Destination;

/// An image that was asked for, and under which of its names.
struct Wanted {
    image: Image,
    names: Vec<Reference>,
}

impl Engine {
    /// Writes images, each once, to a file or to `stdout`. Each of `images` is a name, the name of
    /// a repository without a tag, which stands for all its tags, or an id, which brings no name.
    /// Only these platforms are saved, all that the store has if none is given.
    ///
    /// # Errors
    /// When an image is not in the store or not for such a platform: then nothing was written. When
    /// a layer cannot be had or the destination not be written: then a file is as it was before.
    pub fn save(
        &self,
        images: &[String],
        platforms: &[Platform],
        destination: &Destination,
        stdout: Option<&File>,
        events: &Events,
    ) -> Result<(), BuildError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in images {
            for (image, name) in self.called(text)? {
                let image = of_platforms(image, platforms, text)?;
                add(&mut wanted, image, name);
            }
        }
        let layers = self.new_layers(events);
        let shipping = shipment::Shipping::of_stored();
        let shipments = wanted
            .iter_mut()
            .map(|wanted| shipment::prepare(&self.store, &layers, &mut wanted.image, &shipping))
            .collect::<Result<Vec<_>, _>>()?;
        let named: Vec<_> = wanted
            .iter()
            .zip(&shipments)
            .map(|(wanted, shipment)| layout::Named {
                shipment,
                names: &wanted.names,
            })
            .collect();
        layout::write_docker(&self.store, &layers, &named, destination, stdout)
    }

    /// What a text calls: an image by its name or id, or every tag of a repository.
    fn called(&self, text: &str) -> Result<Vec<(Image, Option<Reference>)>, BuildError> {
        let failed = |error| BuildError::store("read the store's images", error);
        let names = match text.parse::<Reference>() {
            Ok(repository) if Reference::is_repository(text) => {
                let all = self.store.images().map_err(failed)?;
                let all = all.into_iter().flat_map(|(_, names)| names);
                let mut tagged: Vec<Reference> = all
                    .filter(|name| name.name() == repository.name() && name.digest().is_none())
                    .collect();
                tagged.sort();
                tagged
            }
            Ok(name) if name.digest().is_none() => vec![name],
            _ => Vec::new(),
        };
        let mut found = Vec::new();
        for name in names {
            let image = self.store.image(&name).map_err(failed)?;
            found.extend(image.map(|image| (image, Some(name))));
        }
        if found.is_empty() {
            found.push((self.find_image(text)?, None));
        }
        Ok(found)
    }
}

fn add(wanted: &mut Vec<Wanted>, image: Image, name: Option<Reference>) {
    let id: Digest = image.id();
    let known = wanted.iter().position(|wanted| wanted.image.id() == id);
    let index = known.unwrap_or_else(|| {
        wanted.push(Wanted {
            image,
            names: Vec::new(),
        });
        wanted.len() - 1
    });
    let names = &mut wanted[index].names;
    names.extend(name.filter(|name| !names.contains(name)));
}

/// The image with only some of its platforms.
fn of_platforms(mut image: Image, platforms: &[Platform], text: &str) -> Result<Image, BuildError> {
    if platforms.is_empty() {
        return Ok(image);
    }
    let mut chosen = Vec::new();
    for platform in platforms {
        let Some(manifest) = platform.choose(&image.manifests, |manifest| &manifest.platform)
        else {
            let there: Vec<String> = image
                .manifests
                .iter()
                .map(|manifest| manifest.platform.to_string())
                .collect();
            let there = there.join(", ");
            let message = format!("image {text} is not for {platform}: the store has {there}");
            return Err(BuildError::request(message));
        };
        if !chosen.contains(manifest) {
            chosen.push(manifest.clone());
        }
    }
    if chosen.len() < image.manifests.len() {
        // The index names them all.
        image.index = None;
    }
    image.manifests = chosen;
    Ok(image)
}
