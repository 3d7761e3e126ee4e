//! What a stage starts from (rows F3 to F13), and the order in which its instructions come: the
//! base's triggers first.

use std::sync::Arc;

use dockerfile::ast::{Instruction, InstructionKind};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Span};
use graph::{Edge, Environment, ImageOrigin, ImageSource, LocalSource, Meta, Op, Source};
use oci::{ImageConfig, Platform};

use crate::external::{External, bad_name, context, resolve};
use crate::image::ConfigChange;
use crate::known::{Need, ResolvedImage};
use crate::lower::Lowerer;
use crate::path::clean_absolute;
use crate::plan::Base;
use crate::reach::{Reach, stage_triggers};
use crate::request::{Context, NoCache};
use crate::scope::{TRIGGER, did_you_mean};
use crate::stage::{StageLowering, StageOutput, State};

/// Images that a mistyped name may mean.
const COMMON_IMAGES: &[&str] = &[
    "alpine", "busybox", "debian", "fedora", "golang", "nginx", "node", "postgres", "python",
    "redis", "rust", "ubuntu",
];

/// Where commands are looked for when the base image does not say (F12).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Lowers one stage. Errors are among the lowerer's diagnostics; the output is then as good as it
/// gets, so that later stages can be checked too.
pub(crate) fn lower_stage(lowerer: &mut Lowerer<'_>, index: usize, reach: &Reach) -> StageOutput {
    let planned = &lowerer.plan.stages[index];
    let base = planned.base.clone();
    let stage = planned.stage;
    let inherited: Vec<&Instruction> = stage_triggers(&lowerer.plan, &base).collect();
    let image_triggers = reach
        .image_triggers
        .get(&index)
        .map_or(&[][..], Vec::as_slice);
    let replaced = matches!(base, Base::Replaced(_));
    let own = if replaced {
        &[][..]
    } else {
        stage.instructions.as_slice()
    };
    let triggers = image_triggers.iter().map(|trigger| &trigger.instruction);
    let all = triggers.chain(inherited.iter().copied()).chain(own);
    let instructions = all.clone().count();
    let from_image = usize::from(matches!(base, Base::External(_) | Base::Replaced(_)));
    let steps = from_image
        + all
            .filter(|instruction| is_step(&instruction.value))
            .count();
    let mut lowering = StageLowering {
        index,
        state: empty_state(lowerer.request.target_platform().clone()),
        changes: Vec::with_capacity(instructions),
        history: Vec::with_capacity(instructions),
        cmd_set: false,
        steps,
        step: 0,
        no_cache: is_no_cache(&lowerer.request.no_cache, stage.name()),
        trigger: None,
        in_onbuild: false,
        lowerer,
    };
    let (parent, base) = lowering.start(&base);
    let fired = TRIGGER * (inherited.len() + image_triggers.len());
    let from = stage.from.value.image.span();
    if let Err(error) = lowering.lowerer.budget.spend(fired, from) {
        lowering.report(error);
    }
    lowering.in_onbuild = true;
    for trigger in image_triggers {
        lowering.trigger = Some((trigger.text.clone(), stage.from.value.image.span()));
        lowering.instruction(&trigger.instruction);
    }
    lowering.trigger = None;
    for instruction in inherited {
        lowering.instruction(instruction);
    }
    lowering.in_onbuild = false;
    for instruction in own {
        lowering.instruction(instruction);
    }
    StageOutput {
        state: lowering.state,
        parent,
        base,
        changes: lowering.changes,
        history: lowering.history,
    }
}

/// An image with the digest that it was resolved to.
pub(crate) fn image_name(image: &ResolvedImage) -> String {
    let familiar = image.reference.familiar();
    match image.reference.digest() {
        Some(_) => familiar.to_string(),
        None => format!("{familiar}@{}", image.manifest),
    }
}

fn is_step(instruction: &InstructionKind) -> bool {
    use InstructionKind::{Add, Copy, Run, Workdir};
    matches!(instruction, Run(_) | Copy(_) | Add(_) | Workdir(_))
}

fn is_no_cache(no_cache: &NoCache, name: Option<&str>) -> bool {
    match no_cache {
        NoCache::Never => false,
        NoCache::All => true,
        NoCache::Stages(names) => name.is_some_and(|name| names.contains(name)),
    }
}

fn empty_state(platform: Platform) -> State {
    State {
        edge: None,
        env: Environment::new(),
        args: Environment::new(),
        workdir: "/".into(),
        workdir_set: false,
        user: "".into(),
        shell: Arc::from(Vec::new()),
        platform,
        settled: true,
    }
}

impl StageLowering<'_, '_> {
    /// Sets the state that the stage's first instruction finds. Returns the stage or the image
    /// config that the image config continues.
    fn start(&mut self, base: &Base) -> (Option<usize>, Option<Arc<ImageConfig>>) {
        let planned = &self.lowerer.plan.stages[self.index];
        let span = planned.stage.from.value.image.span();
        let asked = planned.platform.clone();
        let external = match base {
            Base::Stage(parent) => {
                if let Some(output) = &self.lowerer.outputs[*parent] {
                    self.state = output.state.clone();
                }
                return (Some(*parent), None);
            }
            Base::Scratch | Base::Unknown => Ok(External::Nothing),
            Base::External(name) => resolve(name, asked.as_ref(), self.lowerer.request),
            Base::Replaced(key) => Ok(context(key, asked.as_ref(), self.lowerer.request)),
        };
        self.state.settled = !matches!(base, Base::Unknown);
        if let Some(platform) = &asked {
            self.state.platform = platform.clone();
        }
        let config = match external {
            Ok(External::Image { need, origin }) => self.start_from_image(&need, origin, asked),
            Ok(other) => {
                self.state.edge = self.lowerer.external_edge(&other);
                None
            }
            Err(error) => {
                let error = bad_name(&error, span, self.lowerer.plan.stage_names(self.index));
                self.report(error);
                self.state.settled = false;
                None
            }
        };
        match &config {
            Some(config) => self.inherit(config),
            None => self.set_workdir("/"),
        }
        self.inject_path();
        (None, config)
    }

    fn start_from_image(
        &mut self,
        need: &Need,
        origin: ImageOrigin,
        asked: Option<Platform>,
    ) -> Option<Arc<ImageConfig>> {
        let planned = &self.lowerer.plan.stages[self.index];
        let span = planned.stage.from.value.image.span();
        let written = planned.stage.from.value.image.text();
        let image = match self.lowerer.image(need, span, self.index) {
            Ok(image) => image,
            Err(error) => {
                self.state.settled = false;
                self.lowerer.diagnostics.extend(error);
                return None;
            }
        };
        let expected = self.state.platform.clone();
        let actual = image.config.platform();
        let known = !actual.os.is_empty() && !actual.architecture.is_empty();
        let differs = actual.os != expected.os || actual.architecture != expected.architecture;
        if asked.is_none() && self.lowerer.request.platform.is_none() && known {
            self.state.platform = actual;
        } else if known && differs {
            let message = format!(
                "base image `{written}` was pulled with platform `{actual}`, expected `{expected}`"
            );
            let warning = Diagnostic::check(Rule::InvalidBaseImagePlatform, span, message);
            self.report(warning);
        }
        self.step += 1;
        let has_layers = !image.config.rootfs.diff_ids.is_empty()
            || image.config.history.iter().any(|entry| !entry.empty_layer);
        if has_layers {
            let name = format!("{}FROM {}", self.step_prefix(), image_name(&image));
            let label = self.lowerer.plan.stages[self.index].label.clone();
            let meta = Meta {
                name,
                stage: Some(label).filter(|label| !label.is_empty()),
                spans: vec![self.lowerer.graph_span(span)],
                ..Meta::default()
            };
            let edge = self.lowerer.image_edge(&image, need, origin, meta);
            self.state.edge = Some(edge);
        }
        Some(Arc::clone(&image.config))
    }

    /// Takes over what the base image's config says about processes.
    fn inherit(&mut self, image: &ImageConfig) {
        let config = &image.config;
        for line in &config.env {
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            self.state.env.set(name, value);
        }
        if !config.working_dir.is_empty() {
            self.set_workdir(&clean_absolute(&config.working_dir));
        }
        self.state.user = config.user.as_str().into();
        self.state.shell = config.shell.clone().into();
    }

    fn set_workdir(&mut self, path: &str) {
        self.state.workdir = path.into();
        self.changes.push(ConfigChange::WorkingDir(path.to_owned()));
    }

    fn inject_path(&mut self) {
        if self.state.env.contains("PATH") || self.state.platform.os == "windows" {
            return;
        }
        self.state.env.set("PATH", DEFAULT_PATH);
        self.changes.push(ConfigChange::Env(
            "PATH".to_owned(),
            DEFAULT_PATH.to_owned(),
        ));
    }
}

impl Lowerer<'_> {
    /// The answer to a need of stage `user`. There is no error when nobody asked yet: then
    /// something else is wrong with the file, and it is lowered only to find out what else.
    pub(crate) fn image(
        &mut self,
        need: &Need,
        span: Span,
        user: usize,
    ) -> Result<ResolvedImage, Option<Diagnostic>> {
        let cause = match self.known.get(need).ok_or(None)? {
            Ok(image) => return Ok(image.clone()),
            Err(cause) => cause,
        };
        let written = self.file.source.slice(span);
        let written = written.split([':', '@']).next().unwrap_or_default();
        let help = self.budget.may_suggest().then(|| {
            let stages = self.plan.stage_names(user);
            did_you_mean(written, stages.chain(COMMON_IMAGES.iter().copied()))
        });
        let error = Diagnostic::error("resolve-image", span, format!("cannot resolve {need}"))
            .with_note(cause.message.clone())
            .with_help_if(help.flatten().or_else(|| cause.help.clone()));
        Err(Some(error))
    }

    /// The vertex of an image.
    pub(crate) fn image_edge(
        &mut self,
        image: &ResolvedImage,
        need: &Need,
        origin: ImageOrigin,
        meta: Meta,
    ) -> Edge {
        let (Need::Image { platform, .. } | Need::Layout { platform, .. }) = need;
        let source = Source::Image(Box::new(ImageSource {
            reference: image.reference.clone(),
            manifest: image.manifest,
            platform: platform.clone(),
            origin,
        }));
        self.builder.add(Op::Source(source), Vec::new(), meta)
    }

    /// The vertex of something that is no image; `None` when there is nothing.
    pub(crate) fn external_edge(&mut self, external: &External) -> Option<Edge> {
        match external {
            External::Image { .. } | External::Nothing => None,
            External::Files { context: name } => {
                let ignore = match self.request.named_contexts.get(name) {
                    Some(Context::Files { ignore }) => ignore.clone(),
                    _ => Vec::new(),
                };
                let source = Source::Local(LocalSource {
                    name: name.clone(),
                    ignore,
                });
                let meta = Meta {
                    name: format!("[context {name}] load"),
                    ..Meta::default()
                };
                Some(self.builder.add(Op::Source(source), Vec::new(), meta))
            }
            External::Fetched { context, source } => {
                let meta = Meta {
                    name: format!("[context {context}] fetch"),
                    ..Meta::default()
                };
                Some(
                    self.builder
                        .add(Op::Source(source.clone()), Vec::new(), meta),
                )
            }
        }
    }

    /// The vertex of the main context.
    pub(crate) fn context_edge(&mut self, span: Span) -> Result<Edge, Diagnostic> {
        if let Some(edge) = self.main_context {
            return Ok(edge);
        }
        let source = match &self.request.context {
            Context::Files { ignore } => Source::Local(LocalSource {
                name: "context".to_owned(),
                ignore: ignore.clone(),
            }),
            Context::Git(git) => Source::Git(git.clone()),
            Context::Http(http) => Source::Http(http.clone()),
            Context::None | Context::Image(_) | Context::Layout => {
                let message = "there is no build context to take files from";
                let error = Diagnostic::error("no-context", span, message).with_help(
                    "give a directory instead of `-`; the Dockerfile may still come from standard \
                     input with `-f -`",
                );
                return Err(error);
            }
        };
        let meta = Meta {
            name: "[internal] load build context".to_owned(),
            ..Meta::default()
        };
        let edge = self.builder.add(Op::Source(source), Vec::new(), meta);
        self.main_context = Some(edge);
        Ok(edge)
    }

    /// The vertex of an empty tree, for what must have an input.
    pub(crate) fn empty_edge(&mut self) -> Edge {
        let meta = Meta {
            name: "[internal] empty tree".to_owned(),
            ..Meta::default()
        };
        self.builder.add(Op::Merge, Vec::new(), meta)
    }
}
