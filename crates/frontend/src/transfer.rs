//! `COPY` and `ADD` (rows C1 to C26, P29): sources of every kind become the actions of one file op.

use dockerfile::ast::{Add, Copy, Instruction, Transfer};
use dockerfile::lint::Rule;
use dockerfile::{Diagnostic, Span, Word};
use graph::{
    Edge, FileAction, FileOp, GitSource, HttpSource, Input, InputIndex, Mkfile, ModeChange, Naming,
    Op, Owner, SelectedPath, Selector, Source, Unpack,
};
use oci::path::clamp;

use crate::base::image_name;
use crate::external::{External, bad_name, resolve as resolve_external};
use crate::owner::{is_numeric, parse_mode, parse_owner};
use crate::path::{is_pattern, names_directory, resolve};
use crate::plan::{FromReference, Origin};
use crate::remote::{GIT_KEYS, GitUrl, GitUrlError, Remote, classify};
use crate::run::push_input;
use crate::stage::StageLowering;

/// Where the sources of a `COPY --from`, or a mount, come from.
pub(crate) struct Tree {
    pub(crate) edge: Edge,
    /// Owners in it mean something: it is a stage or an image, no context.
    pub(crate) owned: bool,
}

/// What an instruction says, expanded and checked.
struct Plan {
    is_add: bool,
    owner: Option<Owner>,
    mode: Option<ModeChange>,
    link: bool,
    parents: bool,
    exclude: Vec<String>,
    sources: Vec<(String, Span)>,
    dest: String,
    dest_is_dir: bool,
    /// Of local archives (`Never` for `COPY`).
    unpack_local: Unpack,
    /// Of downloads.
    unpack_remote: Unpack,
    keep_git_dir: Option<bool>,
    checksum: Option<(String, Span)>,
    /// After the keyword, for the history.
    shown: String,
}

impl StageLowering<'_, '_> {
    pub(crate) fn copy(
        &mut self,
        instruction: &Instruction,
        copy: &Copy,
    ) -> Result<(), Diagnostic> {
        let mut plan = self.transfer_plan(&copy.transfer, copy.parents)?;
        plan.parents = copy.parents;
        let from = match &copy.from {
            Some(from) => Some(self.referenced_tree(FromReference {
                name: &from.value,
                span: from.span,
                by_index: true,
            })?),
            None => None,
        };
        self.transfer(instruction, &copy.transfer, plan, from)
    }

    pub(crate) fn add_instruction(
        &mut self,
        instruction: &Instruction,
        add: &Add,
    ) -> Result<(), Diagnostic> {
        let mut plan = self.transfer_plan(&add.transfer, false)?;
        plan.is_add = true;
        plan.keep_git_dir = add.keep_git_dir;
        plan.unpack_local = match add.unpack {
            Some(false) => Unpack::Never,
            Some(true) | None => Unpack::Detect,
        };
        plan.unpack_remote = match add.unpack {
            Some(true) => Unpack::Detect,
            Some(false) | None => Unpack::Never,
        };
        if let Some(word) = &add.checksum {
            let checksum = self.expand(word)?;
            if !checksum.is_empty() {
                plan.checksum = Some((checksum, word.span()));
            }
        }
        check_checksum(&plan)?;
        self.transfer(instruction, &add.transfer, plan, None)
    }

    /// Expands what `COPY` and `ADD` share.
    fn transfer_plan(&mut self, transfer: &Transfer, parents: bool) -> Result<Plan, Diagnostic> {
        let mut shown = String::new();
        if parents {
            shown.push_str(" --parents");
        }
        let owner = self.expand_flag(transfer.chown.as_ref())?;
        if let Some((text, _)) = &owner {
            shown.push_str(&format!(" --chown={text}"));
        }
        let mode = self.expand_flag(transfer.chmod.as_ref())?;
        if let Some((text, _)) = &mode {
            shown.push_str(&format!(" --chmod={text}"));
        }
        let mut sources = Vec::with_capacity(transfer.sources.len());
        for word in &transfer.sources {
            let source = self.expand(word)?;
            shown.push_str(&format!(" {source}"));
            sources.push((source, word.span()));
        }
        for heredoc in &transfer.heredocs {
            shown.push_str(&format!(" <<{}", heredoc.name));
        }
        let written_dest = self.expand(&transfer.destination)?;
        shown.push_str(&format!(" {written_dest}"));
        let chown = owner.as_ref().map(|(text, _)| parse_owner(text));
        // A mode makes BuildKit copy as if --link were not there, and the result differs in what
        // symbolic links on the way do; kiln gives the same result.
        let link = transfer.link && mode.is_none();
        if let (true, Some((text, span)), Some(parsed)) = (link, &owner, &chown)
            && !is_numeric(parsed)
        {
            let message = format!("--link copies into an empty tree, where {text} has no number");
            let error = Diagnostic::error("link-chown", *span, message)
                .with_help("write numbers, as in --chown=1000:1000, or leave --link out");
            return Err(error);
        }
        let mode = match &mode {
            Some((text, span)) => Some(parse_mode(text, *span)?),
            None => None,
        };
        Ok(Plan {
            is_add: false,
            owner: chown,
            mode,
            link,
            parents,
            exclude: transfer
                .excludes
                .iter()
                .map(|pattern| pattern.value.clone())
                .collect(),
            sources,
            dest: resolve(&self.state.workdir, &written_dest),
            dest_is_dir: names_directory(&written_dest),
            unpack_local: Unpack::Never,
            unpack_remote: Unpack::Never,
            keep_git_dir: None,
            checksum: None,
            shown,
        })
    }

    /// A flag's value; empty is as good as not given.
    fn expand_flag(&mut self, word: Option<&Word>) -> Result<Option<(String, Span)>, Diagnostic> {
        let Some(word) = word else {
            return Ok(None);
        };
        let value = self.expand(word)?;
        Ok(Some((value, word.span())).filter(|(value, _)| !value.is_empty()))
    }

    fn transfer(
        &mut self,
        instruction: &Instruction,
        transfer: &Transfer,
        plan: Plan,
        from: Option<Tree>,
    ) -> Result<(), Diagnostic> {
        let base = self.state.edge.filter(|_| !plan.link);
        // One of each is the rule, and growing by pushing would make room for four.
        let mut inputs: Vec<Input> = Vec::with_capacity(2);
        inputs.extend(base.map(Input::chained));
        let mut actions = Vec::with_capacity(1);
        let mut meta = self.step_meta(instruction);
        meta.no_cache = self.no_cache;
        let mut local: Vec<String> = Vec::new();
        let mut tree = from;
        for (source, span) in &plan.sources {
            let remote = classify(source).map_err(|error| remote_error(&error, *span))?;
            let Some(remote) = remote else {
                local.push(self.local_source(source, *span, &plan, &mut tree)?);
                continue;
            };
            if !plan.is_add {
                return Err(remote_in_copy(&remote, *span));
            }
            flush(&mut local, &tree, &plan, &mut inputs, &mut actions);
            self.remote_source(remote, *span, &plan, instruction, &mut inputs, &mut actions)?;
        }
        flush(&mut local, &tree, &plan, &mut inputs, &mut actions);
        for heredoc in &transfer.heredocs {
            let expanded = heredoc.expand(&crate::scope::Variables(&self.state.env));
            let expanded = expanded.map_err(|error| self.lowerer.budget.failed(&error))?;
            let span = heredoc.marker.span();
            self.lowerer.budget.spend(expanded.steps, span)?;
            self.check_uses(&expanded.uses);
            actions.push(FileAction::Mkfile(Mkfile {
                name: heredoc.name.clone(),
                data: expanded.text.into_bytes(),
                dest: plan.dest.clone(),
                dest_is_dir: plan.dest_is_dir,
                owner: plan.owner.clone(),
                mode: plan.mode.clone(),
                follow_dest_links: !plan.link,
            }));
        }
        let keyword = if plan.is_add { "ADD" } else { "COPY" };
        let created_by = format!("{keyword}{} # buildkit", plan.shown);
        let op = Op::File(FileOp {
            base: base.map(|_| InputIndex(0)),
            actions,
        });
        let copied = self.add(op, inputs, meta.clone());
        let edge = match self.state.edge.filter(|_| plan.link) {
            Some(below) => {
                let prefix = self.step_prefix();
                let rest = meta.name.strip_prefix(&prefix).unwrap_or(&meta.name);
                meta.name = format!("{prefix}LINK {rest}");
                self.add(
                    Op::Merge,
                    vec![Input::chained(below), Input::chained(copied)],
                    meta,
                )
            }
            None => copied,
        };
        self.commit_layer(edge, created_by);
        Ok(())
    }

    /// Checks a source that lies in a tree, and makes sure that there is one.
    fn local_source(
        &mut self,
        source: &str,
        span: Span,
        plan: &Plan,
        tree: &mut Option<Tree>,
    ) -> Result<String, Diagnostic> {
        if tree.is_none() {
            let edge = self.lowerer.context_edge(span)?;
            *tree = Some(Tree { edge, owned: false });
        }
        if tree.as_ref().is_some_and(|tree| self.is_main_context(tree)) {
            self.check_ignored(source, span, plan.is_add);
        }
        Ok(match plan.parents {
            true => clean_with_pivot(source),
            false => clamp(source),
        })
    }

    fn is_main_context(&mut self, tree: &Tree) -> bool {
        self.lowerer.main_context == Some(tree.edge)
    }

    /// `CopyIgnoredFile`: what the ignore file hides cannot be copied. Files that take something
    /// back with `!` are not judged: a hidden directory may hold a file that is not.
    fn check_ignored(&mut self, source: &str, span: Span, is_add: bool) {
        let Some(ignore) = self
            .lowerer
            .ignore
            .as_ref()
            .filter(|file| !file.has_inclusions())
        else {
            return;
        };
        let path = clamp(source);
        let hides_all = |pattern: &str| matches!(pattern, "*" | "**" | "**/*");
        let rule = match path.is_empty() {
            true => ignore.rules().iter().find(|rule| hides_all(&rule.pattern)),
            false => {
                let verdict = ignore.decide(&path);
                verdict.decided_by(ignore).filter(|_| verdict.is_ignored())
            }
        };
        if let Some(rule) = rule {
            let verb = if is_add { "ADD" } else { "COPY" };
            let message =
                format!("attempting to {verb} file `{source}` that is excluded by .dockerignore");
            let warning = Diagnostic::check(Rule::CopyIgnoredFile, span, message)
                .with_note(format!("the pattern `{}` excludes it", rule.pattern));
            self.report(warning);
        }
    }

    /// A download or a repository of `ADD`.
    fn remote_source(
        &mut self,
        remote: Remote,
        span: Span,
        plan: &Plan,
        instruction: &Instruction,
        inputs: &mut Vec<Input>,
        actions: &mut Vec<FileAction>,
    ) -> Result<(), Diagnostic> {
        let (source, path, unpack, verb) = match remote {
            Remote::Http { url, filename } => {
                let checksum = match &plan.checksum {
                    Some((text, span)) => Some(text.parse().map_err(|error| {
                        let message = format!("--checksum is no digest: {error}");
                        Diagnostic::error("checksum", *span, message)
                            .with_help("write it as sha256:<64 hexadecimal digits>")
                    })?),
                    None => None,
                };
                let path = filename.clone();
                let http = HttpSource {
                    url,
                    checksum,
                    filename,
                };
                (Source::Http(http), path, plan.unpack_remote, "download")
            }
            Remote::Git(url) => {
                let git = added_repository(url, plan, span)?;
                (Source::Git(git), String::new(), Unpack::Never, "fetch")
            }
        };
        let shown = match &source {
            Source::Http(http) => http.url.clone(),
            Source::Git(git) => git.remote.clone(),
            Source::Image(_) | Source::Local(_) => String::new(),
        };
        let meta = self.meta(format!("{}{verb} {shown}", self.step_prefix()), instruction);
        let edge = self.add(Op::Source(source), Vec::new(), meta);
        // Downloads and checkouts belong to 0:0, whoever's the process was that made them.
        let owned = false;
        let selector = selector(plan, std::slice::from_ref(&path), owned);
        let input = push_input(inputs, Input::content(edge, selector));
        actions.push(FileAction::Copy(copy_action(
            plan,
            input,
            vec![path],
            unpack,
            owned,
        )));
        Ok(())
    }

    /// The tree that a `from=` names.
    pub(crate) fn referenced_tree(
        &mut self,
        reference: FromReference<'_>,
    ) -> Result<Tree, Diagnostic> {
        let name = match self.lowerer.plan.origin(reference)? {
            Origin::Stage(stage) if stage >= self.index => {
                return Err(self.lowerer.plan.too_early(reference, self.index));
            }
            Origin::Stage(stage) => {
                let output = self.lowerer.outputs[stage].as_ref();
                let edge = output.and_then(|output| output.state.edge);
                let edge = edge.unwrap_or_else(|| self.lowerer.empty_edge());
                return Ok(Tree { edge, owned: true });
            }
            Origin::Scratch => {
                let edge = self.lowerer.empty_edge();
                return Ok(Tree { edge, owned: true });
            }
            Origin::External(name) => name,
        };
        let span = reference.span;
        let external = resolve_external(&name, None, self.lowerer.request)
            .map_err(|error| bad_name(&error, span, self.lowerer.plan.stage_names(self.index)))?;
        match external {
            External::Image { need, origin } => {
                let image = match self.lowerer.image(&need, span, self.index) {
                    Ok(image) => image,
                    Err(Some(error)) => return Err(error),
                    Err(None) => {
                        let edge = self.lowerer.empty_edge();
                        return Ok(Tree { edge, owned: true });
                    }
                };
                let meta = graph::Meta {
                    name: format!("FROM {}", image_name(&image)),
                    spans: vec![self.lowerer.graph_span(span)],
                    ..graph::Meta::default()
                };
                let edge = self.lowerer.image_edge(&image, &need, origin, meta);
                Ok(Tree { edge, owned: true })
            }
            other => {
                let edge = self.lowerer.external_edge(&other);
                let edge = edge.unwrap_or_else(|| self.lowerer.empty_edge());
                Ok(Tree { edge, owned: false })
            }
        }
    }
}

/// Makes the collected sources of a tree one copy.
fn flush(
    local: &mut Vec<String>,
    tree: &Option<Tree>,
    plan: &Plan,
    inputs: &mut Vec<Input>,
    actions: &mut Vec<FileAction>,
) {
    let sources = std::mem::take(local);
    let Some(tree) = tree.as_ref().filter(|_| !sources.is_empty()) else {
        return;
    };
    let selector = selector(plan, &sources, tree.owned);
    let input = push_input(inputs, Input::content(tree.edge, selector));
    let unpack = plan.unpack_local;
    actions.push(FileAction::Copy(copy_action(
        plan, input, sources, unpack, tree.owned,
    )));
}

fn copy_action(
    plan: &Plan,
    input: InputIndex,
    sources: Vec<String>,
    unpack: Unpack,
    owned: bool,
) -> graph::Copy {
    graph::Copy {
        input,
        sources,
        dest: plan.dest.clone(),
        dest_is_dir: plan.dest_is_dir,
        owner: plan.owner.clone(),
        reset_owner: !owned,
        mode: plan.mode.clone(),
        parents: plan.parents,
        exclude: plan.exclude.clone(),
        unpack,
        follow_dest_links: !plan.link,
    }
}

/// What a copy can see of its input.
fn selector(plan: &Plan, sources: &[String], owned: bool) -> Selector {
    let paths = sources.iter().map(|path| SelectedPath {
        path: path.clone(),
        pattern: is_pattern(path),
    });
    Selector {
        paths: paths.collect(),
        exclude: plan.exclude.clone(),
        naming: if plan.parents {
            Naming::Parents
        } else {
            Naming::Contents
        },
        ignore_owner: !owned || plan.owner.is_some(),
        ignore_mode: matches!(plan.mode, Some(ModeChange::Octal(_))),
    }
}

/// A source of `--parents`: clean on both sides of its first `/./`, which stays (C22).
fn clean_with_pivot(source: &str) -> String {
    match source.split_once("/./") {
        Some((before, after)) if clamp(before).is_empty() => format!("./{}", clamp(after)),
        Some((before, after)) => format!("{}/./{}", clamp(before), clamp(after)),
        None => clamp(source),
    }
}

/// C20.
fn check_checksum(plan: &Plan) -> Result<(), Diagnostic> {
    let Some((_, span)) = &plan.checksum else {
        return Ok(());
    };
    let error = |message: &str| Err(Diagnostic::error("checksum", *span, message));
    let [(source, _)] = plan.sources.as_slice() else {
        return error("checksum can't be specified for multiple sources");
    };
    match classify(source) {
        Ok(None) => error("checksum requires HTTP(S) or Git sources"),
        Ok(Some(_)) | Err(_) => Ok(()),
    }
}

fn added_repository(url: GitUrl, plan: &Plan, span: Span) -> Result<GitSource, Diagnostic> {
    if let (Some(flag), Some(query)) = (plan.keep_git_dir, url.keep_git_dir)
        && flag != query
    {
        let message = "--keep-git-dir and the URL's keep-git-dir contradict each other";
        return Err(Diagnostic::error("keep-git-dir", span, message));
    }
    let checksum = match (&plan.checksum, url.checksum) {
        (Some((flag, at)), Some(query)) if *flag != query => {
            let message = format!("checksum mismatch {flag:?} != {query:?}");
            return Err(Diagnostic::error("checksum", *at, message));
        }
        (Some((flag, _)), _) => Some(flag.clone()),
        (None, query) => query,
    };
    Ok(GitSource {
        remote: url.remote,
        reference: url.reference,
        commit: None,
        subdir: url.subdir,
        keep_git_dir: plan.keep_git_dir.or(url.keep_git_dir).unwrap_or(false),
        submodules: url.submodules.unwrap_or(true),
        checksum,
    })
}

fn remote_in_copy(remote: &Remote, span: Span) -> Diagnostic {
    let message = match remote {
        Remote::Git(_) => "source can't be a git ref for COPY",
        Remote::Http { .. } => "source can't be a URL for COPY",
    };
    Diagnostic::error("copy-remote", span, message).with_help("use ADD")
}

fn remote_error(error: &GitUrlError, span: Span) -> Diagnostic {
    let help = match error {
        GitUrlError::UnknownKey(key) => {
            let near = dockerfile::nearest(key, GIT_KEYS.iter().copied());
            near.map(|near| format!("did you mean `{near}`?"))
        }
        _ => None,
    };
    Diagnostic::error("git-url", span, error.to_string()).with_help_if(help)
}
