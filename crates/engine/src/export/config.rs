//! The image's config: what lowering said, with the layers and times that only a build knows.
//! Pure.

use frontend::ImageTemplate;
use oci::{DiffId, History, ImageConfig, RootFs, Timestamp};

/// Puts the config together. `layers` are those of the whole image, the base's first.
///
/// Entries of the base keep their times; the new ones and the image itself get `created`.
pub(crate) fn assemble(
    template: &ImageTemplate,
    layers: &[DiffId],
    created: Timestamp,
) -> ImageConfig {
    let base = template.base.as_deref();
    let base_layers = base.map_or(0, |base| base.rootfs.diff_ids.len());
    let mut history = base
        .map(|base| consistent_history(base, created))
        .unwrap_or_default();
    debug_assert_eq!(
        history.iter().filter(|entry| !entry.empty_layer).count(),
        base_layers
    );
    history.extend(template.history.iter().map(|entry| History {
        created: Some(created),
        ..entry.entry.clone()
    }));
    let mut config = ImageConfig {
        created: Some(created),
        author: template.author.clone(),
        config: template.config.clone(),
        rootfs: RootFs {
            diff_ids: layers.to_vec(),
            ..RootFs::default()
        },
        history,
        extra: base.map(|base| base.extra.clone()).unwrap_or_default(),
        ..ImageConfig::default()
    };
    config.set_platform(&template.platform);
    config
}

/// The base's history with one entry for each of its layers: some images have fewer, and every
/// reader pairs layers with entries (row Y6).
fn consistent_history(base: &ImageConfig, created: Timestamp) -> Vec<History> {
    let layers = base.rootfs.diff_ids.len();
    let mut history = base.history.clone();
    let mut seen = 0;
    history.retain(|entry| {
        seen += usize::from(!entry.empty_layer);
        entry.empty_layer || seen <= layers
    });
    let missing = layers.saturating_sub(seen);
    let placeholder = History {
        created: Some(base.created.unwrap_or(created)),
        comment: "created by the image, which does not say how".into(),
        ..History::default()
    };
    history.extend(std::iter::repeat_n(placeholder, missing));
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::Digest;

    fn base(layers: usize, history: &[bool]) -> ImageConfig {
        let diff = |number: usize| DiffId::new(Digest::sha256(number.to_string()));
        ImageConfig {
            rootfs: RootFs {
                diff_ids: (0..layers).map(diff).collect(),
                ..RootFs::default()
            },
            history: history
                .iter()
                .map(|&empty_layer| History {
                    empty_layer,
                    ..History::default()
                })
                .collect(),
            ..ImageConfig::default()
        }
    }

    #[track_caller]
    fn check(layers: usize, history: &[bool], expected: &[bool]) {
        let now = Timestamp::from_unix(0).expect("the epoch is a time");
        let found: Vec<bool> = consistent_history(&base(layers, history), now)
            .iter()
            .map(|entry| entry.empty_layer)
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_layer_has_an_entry_and_every_entry_a_layer() {
        check(0, &[], &[]);
        check(2, &[false, true, false], &[false, true, false]);
        check(2, &[], &[false, false]);
        check(2, &[true, false], &[true, false, false]);
        check(1, &[false, false, true], &[false, true]);
    }
}
