//! Builds a second time in other surroundings and compares.
//!
//! What is different the second time:
//!
//! | | first | second |
//! |---|---|---|
//! | store | the caller's | a new one: nothing is cached |
//! | context | as it is | in another directory, of another owner, its files a day younger unless `--timestamp` or `SOURCE_DATE_EPOCH` keep times |
//! | user | the caller | one without rights on the machine, in a user namespace of its own; for root only |
//! | umask | the caller's | 077 |
//! | processors | all | one, and one step at a time |
//! | order in directories of layers | by name, where EROFS can be mounted | as the file system has it (the second engine's store keeps directories) |
//! | clock | the machine's | in `RUN` a day, an hour, a minute and a second ahead; times of files are a second later at least |
//!
//! Not varied: the kernel, the kind of processor. Environment, host name, user and umask of `RUN`
//! are the same on every machine in the first place.
//!
//! ```text
//! caller ── split ──► processes that wait           one for each way to build the second time:
//!   │ first build     with another clock and user, with another clock, as the first time
//!   │ furnish         contexts and base images in other places
//!   │ ──── order ───► the first of them builds; if it fails, the next one
//!   │ ◄─── answer ───
//!   ▼ compare
//! ```
//!
//! What works for one user may not work for another, and a debugger does not work for who is
//! followed: such builds are made in the next way, and the caller is told what was not varied.

mod attempt;
mod furnish;
mod other_user;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::cancel::Cancel;
use crate::compare::Difference;
use crate::error::BuildError;
use crate::event::Events;
use crate::request::{BuildRequest, Context, ImageOutput, Output, OutputKind};
use crate::{BuildOutcome, Engine, EngineOptions};
use attempt::{Answer, Attempt};
use tempfile::TempDir;

/// How far the clock of the second build is ahead, in seconds: a day, an hour, a minute and a
/// second, so that the day differs and every part of the time, and what has a term (certificates,
/// Debian's lists of packages: a week) has not run out.
const AHEAD: u32 = 86_400 + 3_600 + 60 + 1;

/// Between the last file of the first build and the first one of the second: times of files are
/// often told in seconds.
const LATER: Duration = Duration::from_millis(1100);

type Cause = Box<dyn std::error::Error + Send + Sync>;

fn failed(error: impl Into<Cause>) -> BuildError {
    BuildError::store("prepare the second build", error)
}

/// The clock of the processes in `RUN`.
#[derive(Debug)]
pub(crate) struct RunClock {
    /// Seconds by which it is ahead of the machine's.
    pub(crate) ahead: u32,
    /// Why it is not, if the kernel refused.
    pub(crate) refused: OnceLock<String>,
}

/// What is varied only where it can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variation {
    clock: bool,
    user: bool,
}

/// The ways to build the second time, best first.
const WAYS: [Variation; 4] = [
    Variation::of(true, true),
    Variation::of(true, false),
    Variation::of(false, true),
    Variation::of(false, false),
];

impl Variation {
    const fn of(clock: bool, user: bool) -> Variation {
        Variation { clock, user }
    }

    fn varies(self, what: Surrounding) -> bool {
        match what {
            Surrounding::Clock => self.clock,
            Surrounding::User => self.user,
        }
    }

    /// For people.
    fn name(self) -> &'static str {
        match (self.clock, self.user) {
            (true, true) => "building again, with another clock and as another user",
            (true, false) => "building again, with another clock",
            (false, true) => "building again, as another user",
            (false, false) => "building again",
        }
    }
}

/// What verification found.
#[derive(Clone, Debug)]
pub struct Verification {
    /// How the images differ.
    pub differences: Vec<Difference>,
    /// What was the same for both builds although it should not have been.
    pub unvaried: Vec<Unvaried>,
}

/// Something that was not varied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unvaried {
    /// What.
    pub what: Surrounding,
    /// Why not.
    pub why: String,
}

/// What the second build may have to share with the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surrounding {
    /// The clock in `RUN`.
    Clock,
    /// The user that runs kiln.
    User,
}

impl std::fmt::Display for Surrounding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Surrounding::Clock => "the clock",
            Surrounding::User => "the user",
        })
    }
}

/// The second build, before it has begun: the processes that may make it, and its directory.
pub struct SecondBuild {
    // Before the directory, which is theirs until they have ended.
    attempts: Vec<(Variation, Attempt)>,
    /// As the first build's, but for the state directory: the one that is removed in the end.
    options: EngineOptions,
    unvaried: Vec<Unvaried>,
    _folder: TempDir,
}

impl SecondBuild {
    /// Makes a directory beside the first build's state directory, which is removed with this value,
    /// and splits off the processes that may build there. In one of them, `build` builds with an
    /// engine and shows progress, under the title that it is given. Called while the process has one
    /// thread.
    ///
    /// # Errors
    /// When the context can be read only once, or the directory or a process cannot be made.
    pub fn split(
        first: &EngineOptions,
        request: &BuildRequest,
        build: impl Fn(&str, &Engine, BuildRequest) -> Result<BuildOutcome, BuildError>,
    ) -> Result<SecondBuild, BuildError> {
        if matches!(request.context, Context::Stream(_)) {
            return Err(BuildError::request(
                "--verify reads the context twice, and standard input can be read once: name a directory",
            ));
        }
        let standing = &first.standpoint.standing;
        let beside = first.root.parent().unwrap_or(&first.root);
        std::fs::create_dir_all(beside).map_err(failed)?;
        let folder = tempfile::Builder::new()
            .prefix("kiln-verify-")
            .tempdir_in(beside);
        let folder = folder.map_err(failed)?;
        other_user::give(standing, folder.path()).map_err(failed)?;
        let mut second = SecondBuild {
            attempts: Vec::new(),
            options: EngineOptions {
                root: std::fs::canonicalize(folder.path()).map_err(failed)?,
                ..first.clone()
            },
            unvaried: Vec::new(),
            _folder: folder,
        };
        let why = other_user::impossible(standing, request);
        let other_user = why.is_none();
        second.unvaried.extend(why.map(|why| Unvaried {
            what: Surrounding::User,
            why: why.into(),
        }));
        for variation in WAYS.into_iter().filter(|way| other_user || !way.user) {
            let number = second.attempts.len();
            let attempt = Attempt::split(variation, number, &second.options, request, &build)?;
            second.attempts.push((variation, attempt));
        }
        Ok(second)
    }

    /// The image of the first way that leads to one, and an engine over the store that has it.
    fn build(
        &mut self,
        order: &furnish::Order,
        cancel: &Cancel,
    ) -> Result<(Engine, String), BuildError> {
        let mut failures: Vec<(Variation, String)> = Vec::new();
        for (number, (way, attempt)) in self.attempts.iter_mut().enumerate() {
            match attempt.run(order, cancel)? {
                Answer::Failed { why } => {
                    failures.push((*way, why));
                    // In the way of the next one only if the disk is small.
                    drop(std::fs::remove_dir_all(store(&self.options.root, number)));
                }
                Answer::Built { image, clock } => {
                    let refused = clock.map(|why| Unvaried {
                        what: Surrounding::Clock,
                        why,
                    });
                    self.unvaried.extend(refused);
                    self.unvaried.extend(in_vain(&failures, *way));
                    let store = attempt::options(&self.options, *way, number);
                    return Ok((Engine::open(store)?, image));
                }
            }
        }
        let why = failures.pop().map(|(_, why)| why).unwrap_or_default();
        let message = format!("the second build failed, which the first one did not: {why}");
        Err(BuildError::request(message))
    }
}

/// What a way does not vary although it was tried, and why it came to nothing the last time.
fn in_vain(failures: &[(Variation, String)], way: Variation) -> impl Iterator<Item = Unvaried> {
    let all = [Surrounding::Clock, Surrounding::User].into_iter();
    let same = all.filter(move |what| !way.varies(*what));
    same.filter_map(|what| {
        let mut tried = failures.iter().rev().filter(|(way, _)| way.varies(what));
        let (_, why) = tried.next()?;
        let why = format!("with another one the build fails: {why}");
        Some(Unvaried { what, why })
    })
}

impl Engine {
    /// Builds for [`Engine::verify`]: as asked, with the image in the store too.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub fn build_first(
        &self,
        mut request: BuildRequest,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<BuildOutcome, BuildError> {
        request.outputs.push(stored());
        self.build(request, events, cancel)
    }

    /// Builds again, and says how the images differ.
    ///
    /// # Errors
    /// As [`Engine::build`].
    pub fn verify(
        &self,
        request: &BuildRequest,
        first: &BuildOutcome,
        mut second: SecondBuild,
        cancel: &Cancel,
    ) -> Result<Verification, BuildError> {
        let begun = Instant::now();
        let image = first.image_id.map(|id| id.to_string());
        let image = image.ok_or_else(|| BuildError::request("--verify needs a build"))?;
        let order = self.furnish(request, &second.options.root, cancel)?;
        // Files that are made the second time are to have later times.
        std::thread::sleep(LATER.saturating_sub(begun.elapsed()));
        let (other, again) = second.build(&order, cancel)?;
        let differences = self.compare(&image, (&other, &again), &Events::ignored())?;
        Ok(Verification {
            differences,
            unvaried: std::mem::take(&mut second.unvaried),
        })
    }
}

fn stored() -> Output {
    Output::plain(OutputKind::Image(ImageOutput::STORE))
}

/// The store of an attempt.
fn store(root: &std::path::Path, number: usize) -> PathBuf {
    root.join(format!("store {number}"))
}
