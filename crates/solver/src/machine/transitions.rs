//! What happens to a vertex, and what its consumers get to know of it.

use super::{Phase, Solver, Sum, Want};
use crate::key::link_key;
use crate::{Action, CacheKey, CacheUse, How, PlanInput, VertexIndex};

impl<R: Clone> Solver<R> {
    /// Waits for everything that the key is made of.
    pub(super) fn need_parts(&mut self, id: usize) {
        self.nodes[id].phase = Phase::NeedsParts { missing: 0 };
        for input in 0..self.nodes[id].inputs.len() {
            let PlanInput {
                vertex: VertexIndex(of),
                how,
            } = self.nodes[id].inputs[input];
            let (source, consumer) = (&self.nodes[of], &self.nodes[id]);
            let has_key = source.key.is_some();
            let linked = source.cache == CacheUse::Normal && consumer.cache == CacheUse::Normal;
            match how {
                How::Unkeyed => continue,
                How::Chained if has_key => continue,
                How::Chained => self.need(id, of, Want::Key),
                How::Content { .. } if !linked => self.unlinked(id, input),
                How::Content { .. } if has_key => self.ask_link(id, input),
                How::Content { .. } => self.need(id, of, Want::Key),
            }
            match &mut self.nodes[id].phase {
                Phase::NeedsParts { missing } => *missing += 1,
                _ => return, // blocked
            }
        }
        self.dirty.insert(id);
    }

    pub(super) fn need_results(&mut self, id: usize) {
        self.nodes[id].phase = Phase::NeedsResults { missing: 0 };
        for input in 0..self.nodes[id].inputs.len() {
            let VertexIndex(of) = self.nodes[id].inputs[input].vertex;
            if matches!(self.nodes[of].phase, Phase::Done { .. }) {
                continue;
            }
            self.need(id, of, Want::Result);
            match &mut self.nodes[id].phase {
                Phase::NeedsResults { missing } => *missing += 1,
                _ => return, // blocked
            }
        }
        self.dirty.insert(id);
    }

    /// Demands something of an input, or blocks the vertex if that input failed.
    fn need(&mut self, id: usize, of: usize, want: Want) {
        match self.nodes[of].phase {
            Phase::Failed => self.fail(id, Phase::Blocked { by: of }, of),
            Phase::Blocked { by } => self.fail(id, Phase::Blocked { by }, by),
            _ => self.demand(of, want),
        }
    }

    /// The vertex has its key for the first time.
    pub(super) fn keyed(&mut self, id: usize, key: CacheKey) {
        self.nodes[id].key = Some(key);
        self.nodes[id].phase = Phase::Keyed;
        for n in 0..self.nodes[id].consumers.len() {
            let (consumer, input) = self.nodes[id].consumers[n];
            let node = &mut self.nodes[consumer];
            if let Phase::NeedsParts { missing } = &mut node.phase {
                match (node.inputs[input].how, node.sums[input]) {
                    (How::Chained, _) => {
                        *missing -= 1;
                        self.dirty.insert(consumer);
                    }
                    (How::Content { .. }, Sum::Unknown) => self.ask_link(consumer, input),
                    _ => {}
                }
            }
        }
    }

    fn ask_link(&mut self, id: usize, input: usize) {
        let node = &mut self.nodes[id];
        let PlanInput { vertex: of, how } = node.inputs[input];
        if let How::Content { selector } = how {
            node.sums[input] = Sum::AskedLink;
            let key = self.nodes[of.0]
                .key
                .expect("asked when the input has its key");
            let link = link_key(key, selector);
            self.ask(Action::LookupLink {
                vertex: VertexIndex(id),
                input,
                link,
            });
        }
    }

    /// A content input has to be looked at.
    pub(super) fn unlinked(&mut self, id: usize, input: usize) {
        self.nodes[id].sums[input] = Sum::Unlinked;
        let VertexIndex(of) = self.nodes[id].inputs[input].vertex;
        self.need(id, of, Want::Result);
        self.ask_checksum(id, input);
    }

    /// Remembers a checksum that was taken, if the input's key tells its content.
    pub(super) fn learn_link(&mut self, id: usize, input: usize, sum: CacheKey) {
        let PlanInput { vertex: of, how } = self.nodes[id].inputs[input];
        let source = &self.nodes[of.0];
        if let (How::Content { selector }, Some(key)) = (how, source.key)
            && source.cache != CacheUse::Volatile
        {
            let link = link_key(key, selector);
            self.out.push(Action::Link {
                vertex: VertexIndex(id),
                link,
                sum,
            });
        }
    }

    pub(super) fn summed(&mut self, id: usize, input: usize, sum: Sum) {
        let node = &mut self.nodes[id];
        node.sums[input] = sum;
        if let Phase::NeedsParts { missing } | Phase::Verifies { missing } = &mut node.phase {
            *missing -= 1;
        }
    }

    /// Looks the result up if the cache may be used, and goes on without otherwise.
    pub(super) fn look_up(&mut self, id: usize, inputs_done: bool) {
        let node = &mut self.nodes[id];
        match (node.cache, node.key) {
            (CacheUse::Normal, Some(key)) => {
                node.phase = Phase::AskedResult { inputs_done };
                self.ask(Action::LookupResult {
                    vertex: VertexIndex(id),
                    key,
                });
            }
            _ if inputs_done => self.execute_if_ready(id),
            _ => self.need_results(id),
        }
    }

    /// Takes the checksums that were only believed, now that the inputs are there.
    ///
    /// A link says what an input was when the link was made. An input that had to be executed
    /// again may have come out otherwise, and saving under the old key would poison the cache.
    pub(super) fn verify(&mut self, id: usize) {
        let believed = |sum: &Sum| matches!(sum, Sum::Believed(_));
        let missing = self.nodes[id]
            .sums
            .iter()
            .filter(|sum| believed(sum))
            .count();
        self.nodes[id].phase = Phase::Verifies { missing };
        for input in 0..self.nodes[id].sums.len() {
            if believed(&self.nodes[id].sums[input]) {
                self.unlinked(id, input);
            }
        }
    }

    /// Executes, or follows the key that the inputs really have.
    pub(super) fn verified(&mut self, id: usize) {
        let parts = self
            .parts(VertexIndex(id))
            .expect("all inputs are done and summed");
        let key = parts.key();
        if self.nodes[id].key.replace(key) == Some(key) {
            self.execute_if_ready(id);
        } else {
            self.look_up(id, true);
        }
    }

    /// Executes, or waits again if an input was lost since it was verified.
    pub(super) fn execute_if_ready(&mut self, id: usize) {
        if !self.is_ready(id) {
            return self.need_results(id);
        }
        let vertex = VertexIndex(id);
        let result = |input: &PlanInput| match &self.nodes[input.vertex.0].phase {
            Phase::Done { result, .. } => Some(result.clone()),
            _ => None,
        };
        let inputs: Option<Vec<R>> = self.nodes[id].inputs.iter().map(result).collect();
        let (inputs, parts) = inputs.zip(self.parts(vertex)).expect("it is ready");
        let key = parts.key();
        self.nodes[id].phase = Phase::Executing { parts };
        self.ask(Action::Execute {
            vertex,
            key,
            inputs,
        });
    }

    pub(super) fn executed(&mut self, id: usize, result: R) {
        let (vertex, node) = (VertexIndex(id), &mut self.nodes[id]);
        if let Phase::Executing { parts } = std::mem::replace(&mut node.phase, Phase::Failed)
            && node.cache != CacheUse::Volatile
        {
            let (key, result) = (parts.key(), result.clone());
            self.out.push(Action::Save {
                vertex,
                key,
                parts,
                result,
            });
        }
        self.done(id, result, true);
    }

    /// The vertex has its result.
    pub(super) fn done(&mut self, id: usize, result: R, executed: bool) {
        self.nodes[id].phase = Phase::Done { result, executed };
        for n in 0..self.nodes[id].consumers.len() {
            let (consumer, input) = self.nodes[id].consumers[n];
            match &mut self.nodes[consumer].phase {
                Phase::NeedsResults { missing } => {
                    *missing -= 1;
                    self.dirty.insert(consumer);
                }
                Phase::NeedsParts { .. } | Phase::Verifies { .. } => {
                    self.ask_checksum(consumer, input);
                }
                _ => {}
            }
        }
    }

    /// Asks for a checksum that has to be taken, if the input's result is there.
    fn ask_checksum(&mut self, id: usize, input: usize) {
        let node = &self.nodes[id];
        let source = &self.nodes[node.inputs[input].vertex.0];
        if let (How::Content { .. }, Sum::Unlinked, Phase::Done { result, .. }) =
            (node.inputs[input].how, node.sums[input], &source.phase)
        {
            let of = result.clone();
            self.nodes[id].sums[input] = Sum::Asked;
            self.ask(Action::Checksum {
                vertex: VertexIndex(id),
                input,
                of,
            });
        }
    }

    /// The vertex failed, or is blocked by one that did; so is everything that waits for it.
    ///
    /// A consumer whose own key is known and whose result is being looked up does not wait: it
    /// may be found in the cache.
    pub(super) fn fail(&mut self, id: usize, phase: Phase<R>, by: usize) {
        self.nodes[id].phase = phase;
        let mut failed = vec![id];
        while let Some(id) = failed.pop() {
            let has_key = self.nodes[id].key.is_some();
            for n in 0..self.nodes[id].consumers.len() {
                let (consumer, input) = self.nodes[id].consumers[n];
                let node = &mut self.nodes[consumer];
                let waits = match (&node.phase, node.inputs[input].how) {
                    (Phase::NeedsResults { .. }, _) => true,
                    (Phase::NeedsParts { .. }, How::Chained) => !has_key,
                    (Phase::NeedsParts { .. }, How::Content { .. }) => {
                        matches!(node.sums[input], Sum::Unknown | Sum::Unlinked)
                    }
                    (Phase::Verifies { .. }, _) => node.sums[input] == Sum::Unlinked,
                    _ => false,
                };
                if waits {
                    node.phase = Phase::Blocked { by };
                    failed.push(consumer);
                }
            }
        }
    }
}
