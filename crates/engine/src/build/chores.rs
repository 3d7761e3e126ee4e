//! What a step leaves to be done when its result was handed on already: nobody waits for it but
//! the end of the build.

use std::sync::Mutex;

use solver::{CacheKey, VertexIndex};
use store::WorkDirectory;

use super::explain;
use super::session::Session;

use crate::lock::lock;

/// Something to be done later.
pub(crate) enum Chore {
    /// Remember what a step was made of, for explanations.
    Remember {
        /// The step.
        vertex: VertexIndex,
        /// Its key.
        key: CacheKey,
        /// What the key is made of.
        inputs: Vec<(String, String)>,
    },
    /// Remove what overlayfs left behind.
    Remove(WorkDirectory),
}

/// What was not done yet.
#[derive(Default)]
pub(super) struct Chores(Mutex<Vec<Chore>>);

impl Session<'_> {
    /// Puts a chore off until the step has handed its result on.
    pub(crate) fn later(&self, chore: Chore) {
        lock(&self.learned.chores.0).push(chore);
    }

    /// Does what there is to do.
    pub(super) fn do_chores(&self) {
        let mine = std::mem::take(&mut *lock(&self.learned.chores.0));
        for chore in mine {
            match chore {
                Chore::Remember {
                    vertex,
                    key,
                    inputs,
                } => explain::remember(self, vertex, key, &inputs),
                Chore::Remove(directory) => drop(directory),
            }
        }
    }
}
