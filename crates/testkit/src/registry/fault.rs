//! What can be made to go wrong.

use std::time::Duration;

/// How one request goes wrong, or just differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answers with this status and these headers, after reading the request whole.
    Status(u16, Vec<(String, String)>),
    /// Reads this many bytes of the request's body, keeps them, and resets the connection.
    CutRequest(u64),
    /// Reads this many bytes of the request's body, keeps them, answers with this status, and
    /// closes the connection.
    RefuseRequest(u64, u16),
    /// Answers, but resets the connection after this many bytes of the body.
    CutResponse(u64),
    /// Does what was asked and resets the connection without a word.
    LoseResponse,
    /// Turns over one bit of the answer's body.
    Corrupt,
    /// Adds bytes to the answer's body, with a fitting length.
    Append(usize),
    /// Leaves a header out of the answer (name in small letters).
    Without(&'static str),
    /// Puts a header into the answer.
    With(&'static str, String),
    /// Sends the answer chunked, without a length.
    Unsized,
    /// Waits before the answer.
    Wait(Duration),
    /// Sends a blob from the other host, by status 307.
    Redirect,
    /// Takes no notice of `Range`.
    IgnoreRange,
}

#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) method: String,
    pub(super) part: String,
    pub(super) times: usize,
    pub(super) effect: Effect,
}

/// The effects on a request, each of them used up once. What excludes each other comes one after
/// the other, in the order in which it was asked for.
pub(super) fn take(faults: &mut Vec<Fault>, method: &str, target: &str) -> Vec<Effect> {
    let mut effects: Vec<Effect> = Vec::new();
    for fault in faults.iter_mut() {
        let fits = fault.method == method && target.contains(&fault.part);
        if fits && !effects.iter().any(|taken| excludes(taken, &fault.effect)) {
            fault.times -= 1;
            effects.push(fault.effect.clone());
        }
    }
    faults.retain(|fault| fault.times > 0);
    effects
}

fn excludes(one: &Effect, other: &Effect) -> bool {
    let decides = |effect: &Effect| {
        use Effect::{CutRequest, CutResponse, LoseResponse, RefuseRequest, Status};
        matches!(
            effect,
            Status(..) | CutRequest(_) | RefuseRequest(..) | CutResponse(_) | LoseResponse
        )
    };
    let stacks = matches!(one, Effect::With(..) | Effect::Without(_));
    let same = std::mem::discriminant(one) == std::mem::discriminant(other);
    (decides(one) && decides(other)) || (same && !stacks)
}
