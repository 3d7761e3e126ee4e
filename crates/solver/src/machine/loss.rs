//! Results that turn out to be gone: a record of a remote cache outlived its blobs.
//!
//! Records are looked up long before their files are needed. When the files then cannot be had,
//! the vertex is executed as if nothing had been found, and whoever needed it waits again.

use super::{Phase, Solver, Sum};
use crate::VertexIndex;

impl<R: Clone> Solver<R> {
    /// Takes the answer that an input's result could not be used. A result that this build made
    /// itself cannot get lost: then the consumer fails, as it does if losses do not end.
    pub(super) fn input_lost(&mut self, id: usize, input: usize) {
        let VertexIndex(of) = self.nodes[id].inputs[input].vertex;
        let node = &mut self.nodes[id];
        node.losses += 1;
        let endless = node.losses > 2 * node.inputs.len();
        let source = &self.nodes[of];
        match source.phase {
            Phase::Done {
                executed: false, ..
            } if !endless => self.lose(of),
            // Somebody else lost it before, and this question was still about the old result.
            _ if source.lost && !endless => {}
            _ => return self.fail(id, Phase::Failed, id),
        }
        if matches!(self.nodes[id].phase, Phase::Executing { .. }) {
            self.need_results(id);
        } else {
            self.unlinked(id, input);
        }
    }

    /// Executes a vertex whose result was found and is gone.
    fn lose(&mut self, id: usize) {
        self.nodes[id].lost = true;
        for n in 0..self.nodes[id].consumers.len() {
            let (consumer, input) = self.nodes[id].consumers[n];
            let node = &mut self.nodes[consumer];
            // What will be executed may come out otherwise.
            node.sums[input] = match node.sums[input] {
                Sum::Seen(sum) => Sum::Believed(sum),
                Sum::Asked => Sum::AskedOfLost,
                other => other,
            };
            if let Phase::NeedsResults { missing } = &mut node.phase {
                *missing += 1;
            }
        }
        self.need_results(id);
    }

    /// Whether a vertex can execute: its inputs are there, and their checksums were taken of them.
    pub(super) fn is_ready(&self, id: usize) -> bool {
        let node = &self.nodes[id];
        let done = |of: VertexIndex| matches!(self.nodes[of.0].phase, Phase::Done { .. });
        node.inputs.iter().all(|input| done(input.vertex))
            && !node.sums.iter().any(|sum| matches!(sum, Sum::Believed(_)))
    }
}
