//! Chains of more layers than an overlay takes: some of them are made into one, once, and only to
//! be mounted. What is shipped, and what keys are made of, are the layers themselves.

use std::borrow::Cow;

use solver::KeyHasher;
use store::{LayerId, ResultRecord};

use crate::build::store_key;
use crate::error::StepError;
use crate::layers::Layers;

/// Layers that are mounted as they are. overlayfs takes 500, of which one is the container's own;
/// but each takes its time in every mount, and kernels that are told of all of them in one page
/// (before 6.7) take about 220.
const MOST: usize = 192;

/// Layers that become one.
const BLOCK: usize = 64;

/// A chain that shows the same files and is short enough to be mounted. All layers are there.
pub(crate) fn shortened<'c>(
    layers: &Layers<'_>,
    chain: &'c [LayerId],
) -> Result<Cow<'c, [LayerId]>, StepError> {
    let mut chain = Cow::Borrowed(chain);
    while chain.len() > MOST {
        let mut short = Vec::with_capacity(chain.len());
        let chosen = chosen_blocks(chain.len());
        for (number, block) in chain.chunks(BLOCK).enumerate() {
            match chosen.contains(&number) {
                true => short.push(merged(layers, block)?),
                false => short.extend_from_slice(block),
            }
        }
        chain = Cow::Owned(short);
    }
    Ok(chain)
}

/// Which blocks of a chain are merged: the same ones for a chain that is a little longer, so that
/// the work is done once; and the lowest last, which has the files of the base image.
fn chosen_blocks(len: usize) -> Vec<usize> {
    let complete = len / BLOCK;
    let wanted = len.saturating_sub(MOST).div_ceil(BLOCK - 1);
    (1..complete).chain([0]).take(wanted).collect()
}

fn merged(layers: &Layers<'_>, block: &[LayerId]) -> Result<LayerId, StepError> {
    let hasher = KeyHasher::new("kiln.merged layers", 1);
    let key = block
        .iter()
        .fold(hasher, |hasher, id| hasher.text(&id.to_string()))
        .finish();
    let key = store_key(key);
    let failed = || "merge the layers of a long chain";
    let known = || {
        let record = layers
            .store
            .result(&key)
            .map_err(StepError::failed(failed()))?;
        let layer = record.and_then(|record| record.layers.first().copied());
        Ok::<_, StepError>(layer)
    };
    if let Some(layer) = known()? {
        return Ok(layer);
    }
    let cancel = layers.cancel();
    let _flight = layers
        .store
        .flight(&format!("merged {key}"), &|| cancel.is_cancelled())
        .map_err(StepError::failed(failed()))?;
    if let Some(layer) = known()? {
        return Ok(layer);
    }
    let layer = layers.flatten(block)?;
    let record = ResultRecord {
        layers: vec![layer],
        inputs: Vec::new(),
        description: format!("{} layers of a long chain in one", block.len()),
        created: 0,
    };
    // Without the record the next step merges them again.
    drop(layers.store.save_result(&key, &record));
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(len: usize, expected: &[usize]) {
        assert_eq!(chosen_blocks(len), expected, "of {len} layers");
    }

    #[test]
    fn as_few_blocks_as_suffice_and_the_base_last() {
        check(1, &[]);
        check(MOST, &[]);
        check(MOST + 1, &[1]);
        check(MOST + 63, &[1]);
        check(MOST + 64, &[1, 2]);
        check(520, &[1, 2, 3, 4, 5, 6]);
        check(10 * 64 + 1, &[1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_round_always_shortens_the_chain() {
        for len in MOST + 1..5000 {
            let left = len - chosen_blocks(len).len() * (BLOCK - 1);
            assert!(left <= MOST.max(len / 2), "{len} layers become {left}");
        }
    }
}
