//! Layers of the image made ready to be shipped while later steps run: packed and compressed, with
//! what the steps leave of the processors.
//!
//! Only a head start. What is not done, or failed, when the build ends is done then by whoever
//! needs it; and what is under way is waited for there, not done twice (see `turns`).

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread::Scope;

use layer::Times;
use layer::compress::Compression;
use store::LayerId;

use crate::export::shipment::writer;
use crate::lane::Lane;
use crate::layers::Layers;
use crate::lock::lock;
use crate::request::{BuildRequest, ImageOutput, Output, OutputKind};
use crate::room::Room;

/// How much less than others these threads want of the processors, as `nice(2)` counts.
const NICENESS: i32 = 10;

/// The head start of one build.
pub(crate) struct Ahead<'a> {
    layers: &'a Layers<'a>,
    room: &'a Room,
    times: Times,
    /// In which forms the outputs need each layer.
    forms: Vec<Compression>,
    waiting: Mutex<Waiting>,
    lane: Lane<LayerId>,
}

#[derive(Default)]
struct Waiting {
    seen: HashSet<LayerId>,
    layers: Vec<LayerId>,
}

/// A thread is at work; it takes nothing new when this is dropped.
pub(crate) struct AtWork<'a>(&'a Ahead<'a>);

impl<'a> Ahead<'a> {
    /// `None` when no output of the request needs blobs.
    pub(super) fn new(
        request: &BuildRequest,
        times: Times,
        layers: &'a Layers<'a>,
        room: &'a Room,
    ) -> Option<Ahead<'a>> {
        let mut forms = Vec::new();
        for output in request.outputs.iter().filter(|output| ships(output)) {
            let form = writer(output.encoding);
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        (!forms.is_empty()).then(|| Ahead {
            layers,
            room,
            times,
            forms,
            waiting: Mutex::default(),
            lane: Lane::new(),
        })
    }

    pub(super) fn start<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>) -> AtWork<'scope> {
        // Threads of rayon's are everybody's: they must not come to be from that one.
        rayon::current_num_threads();
        scope.spawn(|| {
            // Where the kernel refuses, the steps get a little less.
            _ = sys::process::nice(NICENESS);
            self.lane.work(|id| {
                // What fails here fails again, and is told, when it is needed.
                _ = self.room.retried(|| self.make(id));
            });
        });
        AtWork(self)
    }

    /// Takes note of layers of the image that a step made, or that were found.
    pub(super) fn note(&self, layers: &[LayerId]) {
        let mut waiting = lock(&self.waiting);
        for &id in layers {
            // Those of a base image are blobs already.
            if !self.layers.is_of_image(id) && waiting.seen.insert(id) {
                waiting.layers.push(id);
            }
        }
    }

    /// Begins with what was noted, now that something else goes on meanwhile. The layer of the
    /// last step is better left to whoever waits for it.
    pub(super) fn go_on(&self) {
        let mut waiting = lock(&self.waiting);
        for id in waiting.layers.drain(..) {
            self.lane.push(id);
        }
    }

    fn make(&self, id: LayerId) -> Result<(), crate::StepError> {
        let (id, _) = self.layers.retimed(id, self.times)?;
        for &form in &self.forms {
            // The layer has the times of the image by now.
            self.layers.blob(id, Times::Layer, form, false)?;
        }
        Ok(())
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.lane.close();
    }
}

/// Whether an output needs its layers as blobs.
fn ships(output: &Output) -> bool {
    match output.kind {
        OutputKind::Oci { .. } | OutputKind::Docker { .. } => true,
        OutputKind::Image(ImageOutput {
            push, canonical, ..
        }) => push || canonical,
        OutputKind::CacheOnly | OutputKind::Local { .. } | OutputKind::Tar { .. } => false,
    }
}
