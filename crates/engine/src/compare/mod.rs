//! How two images differ: configs field by field, layers entry by entry, and what is left when all
//! layers are on top of each other, file by file.
//!
//! What is compared are the tars as they are shipped, times and all, so equal means equal bytes.
//!
//! ```text
//!  layers   ── common ──┬─ one ── two ── …     paired in order (see `paired`)
//!             (skipped) └─ one ── uno ── …
//!  files    merged trees of both (see `merged`), of which the common part is read once
//! ```

mod config;
mod entries;
mod merged;
mod times;

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use layer::apply::{Limits, layer_changes};
use layer::{Content, Times};
use oci::ImageConfig;
use store::{Image, ImageLayer, ImageManifest};

use crate::Engine;
use crate::error::{BuildError, StepError};
use crate::event::Events;
use crate::resolve;
use entries::Entries;
use merged::Merged;

/// One difference between two images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The platform, when there are several.
    pub platform: Option<String>,
    /// Where it is.
    pub place: Place,
    /// The platform, the field of the config, or the path.
    pub item: String,
    /// What is different about it; at least one.
    pub reasons: Vec<Reason>,
}

/// Where images can differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the platforms that they are for.
    Image,
    /// In the config.
    Config,
    /// In a layer.
    Layer {
        /// Counted from 1: in the first image, or in the second one if only that has it.
        number: usize,
        /// The instruction that made it, as the history says.
        instruction: String,
    },
    /// In the files that a container sees.
    Files,
}

/// What is different about something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// In which respect.
    pub aspect: Aspect,
    /// In words: what it is in the first image, and in the second.
    pub text: String,
}

/// In what respects things can differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Only the second image has it.
    Added,
    /// Only the first image has it.
    Removed,
    /// Value of a field of the config.
    Value,
    /// File, directory, symbolic link and the like.
    Kind,
    /// The bytes of a file.
    Content,
    /// Permission bits.
    Mode,
    /// User and group.
    Owner,
    /// Modification time.
    Time,
    /// Extended attributes.
    Attributes,
    /// Target of a symbolic link, or the other name of a hard-linked file.
    Link,
    /// The bytes of an archive that says the same.
    Form,
}

impl Aspect {
    /// One lowercase word.
    pub fn word(self) -> &'static str {
        match self {
            Aspect::Added => "added",
            Aspect::Removed => "removed",
            Aspect::Value => "value",
            Aspect::Kind => "kind",
            Aspect::Content => "content",
            Aspect::Mode => "mode",
            Aspect::Owner => "owner",
            Aspect::Time => "time",
            Aspect::Attributes => "attributes",
            Aspect::Link => "link",
            Aspect::Form => "form",
        }
    }
}

/// An image of one platform, and the engine whose store has it.
type Side<'a> = (&'a Engine, &'a ImageManifest);

impl Engine {
    /// Compares an image of this store with one of `other`, both by name or id.
    ///
    /// # Errors
    /// When one does not exist or cannot be read.
    pub fn compare(
        &self,
        one: &str,
        (other, two): (&Engine, &str),
        events: &Events,
    ) -> Result<Vec<Difference>, BuildError> {
        let (a, b) = (self.find_image(one)?, other.find_image(two)?);
        let mut found = Vec::new();
        let several = a.manifests.len() > 1 || b.manifests.len() > 1;
        let names = |image: &Image| -> BTreeSet<String> {
            let platforms = image.manifests.iter();
            platforms.map(|image| image.platform.to_string()).collect()
        };
        for name in names(&a).union(&names(&b)) {
            let find = |image: &Image| {
                let mut all = image.manifests.clone().into_iter();
                all.find(|image| image.platform.to_string() == *name)
            };
            let mut differences = match (find(&a), find(&b)) {
                (Some(a), Some(b)) => platform((self, &a), (other, &b), events)
                    .map_err(|error| BuildError::store("compare the images", error))?,
                (a, _) => vec![Difference {
                    platform: None,
                    place: Place::Image,
                    item: name.clone(),
                    reasons: vec![only_in(a.is_some())],
                }],
            };
            if several {
                for difference in &mut differences {
                    difference.platform = Some(name.clone());
                }
            }
            found.append(&mut differences);
        }
        Ok(found)
    }
}

fn only_in(first: bool) -> Reason {
    if first {
        Aspect::Removed.because("only in the first")
    } else {
        Aspect::Added.because("only in the second")
    }
}

impl Aspect {
    fn because(self, text: impl Into<String>) -> Reason {
        Reason {
            aspect: self,
            text: text.into(),
        }
    }
}

impl Place {
    fn with(&self, item: impl Into<String>, reasons: Vec<Reason>) -> Difference {
        Difference {
            platform: None,
            place: self.clone(),
            item: item.into(),
            reasons,
        }
    }
}

/// Compares the images of one platform.
fn platform(a: Side<'_>, b: Side<'_>, events: &Events) -> Result<Vec<Difference>, StepError> {
    let config = |(engine, image): Side<'_>| {
        let found = resolve::config(&engine.store, image, "the image");
        found.map_err(StepError::failed("read the image's config"))
    };
    let (config_a, config_b) = (config(a)?, config(b)?);
    let mut found = config::differences(config_a.bytes(), config_b.bytes());
    let common = a.1.layers.iter().zip(&b.1.layers);
    let common = common.take_while(|(a, b)| a.diff_id == b.diff_id).count();
    if common == a.1.layers.len() && common == b.1.layers.len() {
        return Ok(found);
    }
    let base = base(a.0, &a.1.layers[..common], events)?;
    let (mut tree_a, mut tree_b) = (base.clone(), base);
    let instructions = |config: &ImageConfig| {
        let made = config.history.iter().filter(|entry| !entry.empty_layer);
        let names = made.map(|entry| entry.created_by.clone());
        names.collect::<Vec<String>>()
    };
    let named = |config: &ImageConfig, layers: &[ImageLayer]| -> Vec<String> {
        let mut names = instructions(config);
        names.resize(layers.len(), String::new());
        names.split_off(common)
    };
    let names_a = named(config_a.value(), &a.1.layers);
    let names_b = named(config_b.value(), &b.1.layers);
    for (at_a, at_b) in paired(&names_a, &names_b) {
        let read = |(engine, image): Side<'_>, at: Option<usize>| {
            let layer = at.map(|at| &image.layers[common + at]);
            let entries = layer.map(|layer| entries(engine, layer, events));
            Ok::<_, StepError>(layer.map(|layer| layer.diff_id).zip(entries.transpose()?))
        };
        let (of_a, of_b) = (read(a, at_a)?, read(b, at_b)?);
        let at = at_a.or(at_b).unwrap_or_default();
        let place = Place::Layer {
            number: common + at + 1,
            instruction: if at_a.is_some() { &names_a } else { &names_b }[at].clone(),
        };
        match (&of_a, &of_b) {
            (Some((id_a, _)), Some((id_b, _))) if id_a == id_b => {}
            (Some((_, a)), Some((_, b))) => {
                let differences = entries::differences(a, b)?;
                found.extend(differences.into_iter().map(|(item, r)| place.with(item, r)));
            }
            (a, _) => found.push(place.with("all of it", vec![only_in(a.is_some())])),
        }
        for (tree, layer) in [(&mut tree_a, of_a), (&mut tree_b, of_b)] {
            if let Some((_, entries)) = layer {
                tree.apply(entries);
            }
        }
    }
    let files = merged::differences(&tree_a, &tree_b)?;
    found.extend(
        files
            .into_iter()
            .map(|(item, r)| Place::Files.with(item, r)),
    );
    Ok(found)
}

/// Pairs layers by position, or, when there are more of one image than of the other, by their
/// instructions, in order.
fn paired(a: &[String], b: &[String]) -> Vec<(Option<usize>, Option<usize>)> {
    if a.len() == b.len() {
        return (0..a.len()).map(|at| (Some(at), Some(at))).collect();
    }
    let mut pairs = Vec::new();
    let mut next = 0;
    for (at, name) in a.iter().enumerate() {
        match b[next..].iter().position(|other| other == name) {
            Some(skipped) => {
                pairs.extend((next..next + skipped).map(|at| (None, Some(at))));
                pairs.push((Some(at), Some(next + skipped)));
                next += skipped + 1;
            }
            None => pairs.push((Some(at), None)),
        }
    }
    pairs.extend((next..b.len()).map(|at| (None, Some(at))));
    pairs
}

/// What the layers that both images have come to: the same in both, but what is put on top of it
/// may be in one only.
fn base(engine: &Engine, common: &[ImageLayer], events: &Events) -> Result<Merged, StepError> {
    let mut tree = Merged::default();
    for layer in common {
        tree.apply(entries(engine, layer, events)?);
    }
    Ok(tree)
}

/// The entries of a layer's tar.
fn entries(engine: &Engine, layer: &ImageLayer, events: &Events) -> Result<Entries, StepError> {
    let id = layer.id;
    let failed = || format!("read layer {id}");
    let layers = engine.new_layers(events);
    layers.ensure(&[id])?;
    let packed = layers.packed(id, Times::Layer)?;
    let file = File::open(&packed.tar).map_err(StepError::failed(failed()))?;
    let content = Content {
        file: Arc::new(file),
        offset: 0,
        len: packed.tar_len,
    };
    let scratch = layers.scratch_file()?;
    let changes = layer_changes(&content, &scratch, &Limits::default())
        .map_err(StepError::failed(failed()))?;
    Ok(changes.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(a: &str, b: &str, expected: &str) {
        let words = |text: &str| {
            text.split_whitespace()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let found = paired(&words(a), &words(b));
        let shown = |at: Option<usize>| at.map_or("-".to_string(), |at| at.to_string());
        let found = found.into_iter().map(|(a, b)| shown(a) + &shown(b));
        assert_eq!(found.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn layers_are_paired_by_position_or_by_instruction() {
        check("", "", "");
        check("a b", "a c", "00 11");
        check("a b", "a x b", "00 -1 12");
        check("a x b", "a b", "00 1- 21");
        check("a b c", "b", "0- 10 2-");
        check("a", "x y", "0- -0 -1");
    }
}
