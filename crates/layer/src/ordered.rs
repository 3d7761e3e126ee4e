//! Work on several threads whose results are taken in order, in bounded memory.
//!
//! The order of the results, and so every byte made from them, does not depend on how many
//! threads there are.

use std::num::NonZero;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Threads that read, for each that runs.
const READERS: usize = 4;

/// Units that may be under way or waiting, for each thread.
const UNITS_AHEAD: usize = 2;

/// Pieces of one unit that may wait.
const PIECES_AHEAD: usize = 4;

/// More threads than this gain nothing here: the consumer is the bound.
const MOST_THREADS: usize = 32;

/// How many threads wait for the disk when files are read that it may have to fetch: several for
/// each that runs, because a disk answers many questions at once.
pub(crate) fn readers() -> usize {
    (READERS * threads()).min(MOST_THREADS)
}

/// How many threads this machine runs at once.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(MOST_THREADS))
}

/// Where a unit puts its pieces.
pub(crate) struct Sink<P, E>(SyncSender<Result<P, E>>);

/// The consumer has failed; whoever sees this stops.
pub(crate) struct Gone;

impl<P, E> Sink<P, E> {
    /// Hands one piece over, waiting while too many wait already.
    pub(crate) fn put(&self, piece: P) -> Result<(), Gone> {
        self.0.send(Ok(piece)).map_err(|_| Gone)
    }

    fn fail(&self, error: E) {
        // Nobody listens when the consumer has failed before: its error is the one that counts.
        drop(self.0.send(Err(error)));
    }
}

/// Why a unit stopped.
pub(crate) enum Stop<E> {
    /// It failed.
    Error(E),
    /// Nobody wants its pieces.
    Gone,
}

impl<E> From<Gone> for Stop<E> {
    fn from(_: Gone) -> Stop<E> {
        Stop::Gone
    }
}

/// Runs `produce` for every unit on `threads` threads, and `consume` on this one for every piece,
/// unit by unit. Units are drawn in order, one at a time.
///
/// # Errors
/// The first error in order of units, be it of drawing, of producing or of consuming.
pub(crate) fn run<U, P, E>(
    threads: NonZero<usize>,
    units: impl Iterator<Item = Result<U, E>> + Send,
    produce: impl Fn(U, &Sink<P, E>) -> Result<(), Stop<E>> + Sync,
    mut consume: impl FnMut(P) -> Result<(), E>,
) -> Result<(), E>
where
    P: Send,
    E: Send,
{
    let (order, queue) = sync_channel::<Receiver<Result<P, E>>>(threads.get() * UNITS_AHEAD);
    let source = Mutex::new(Some((units, order)));
    let work = || {
        while let Some((unit, sink)) = draw(&source) {
            let result = match unit {
                Ok(unit) => produce(unit, &sink),
                Err(error) => Err(Stop::Error(error)),
            };
            match result {
                Ok(()) => {}
                Err(Stop::Gone) => return,
                Err(Stop::Error(error)) => {
                    sink.fail(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.get() {
            scope.spawn(work);
        }
        // Owned by this scope, so that an early return wakes the producers.
        let queue = queue;
        for pieces in &queue {
            for piece in pieces {
                consume(piece?)?;
            }
        }
        Ok(())
    })
}

/// Units still to be drawn, and the queue that tells the consumer their order.
type Source<I, P, E> = Mutex<Option<(I, SyncSender<Receiver<Result<P, E>>>)>>;

/// The next unit and the sink for its pieces; `None` when there is no more, or nobody listens.
fn draw<U, P, E>(
    source: &Source<impl Iterator<Item = Result<U, E>>, P, E>,
) -> Option<(Result<U, E>, Sink<P, E>)> {
    // A poisoned lock means that drawing panicked: the scope passes that panic on.
    let mut source = source.lock().ok()?;
    let (units, order) = source.as_mut()?;
    let next = units.next();
    let last = !matches!(next, Some(Ok(_)));
    let drawn = next.and_then(|unit| {
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        order.send(pieces).ok()?;
        Some((unit, Sink(sender)))
    });
    if last || drawn.is_none() {
        *source = None;
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(threads: usize, fail_at: Option<u32>) -> (Vec<u32>, Result<(), u32>) {
        let mut seen = Vec::new();
        let result = run(
            NonZero::new(threads).unwrap(),
            (0..100).map(Ok),
            |unit: u32, sink| {
                if Some(unit) == fail_at {
                    return Err(Stop::Error(unit));
                }
                for piece in 0..unit % 7 {
                    sink.put(unit * 10 + piece)?;
                }
                Ok(())
            },
            |piece| {
                seen.push(piece);
                Ok(())
            },
        );
        (seen, result)
    }

    #[test]
    fn pieces_come_in_order_on_any_number_of_threads() {
        let (one, result) = collect(1, None);
        assert_eq!(result, Ok(()));
        assert!(one.is_sorted());
        for threads in [2, 3, 8] {
            assert_eq!(collect(threads, None).0, one);
        }
    }

    #[test]
    fn the_first_error_in_order_ends_it() {
        for threads in [1, 2, 8] {
            let (seen, result) = collect(threads, Some(50));
            assert_eq!(result, Err(50));
            assert!(seen.iter().all(|piece| *piece < 500));
        }
    }

    #[test]
    fn a_failing_consumer_stops_the_producers() {
        let result = run(
            NonZero::new(3).unwrap(),
            (0..).map(Ok),
            |unit: u64, sink| Ok(sink.put(unit)?),
            |unit| if unit < 1000 { Ok(()) } else { Err(unit) },
        );
        assert_eq!(result, Err(1000));
    }
}
