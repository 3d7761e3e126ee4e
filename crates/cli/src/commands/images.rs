//! Images of the store: pull, push, list, name, remove, show.

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use engine::event::Events;
use engine::{Engine, ImageSummary};
use oci::Reference;
use serde_json::{Map, Value, json};

use super::Session;
use crate::args::{
    Format, HistoryArgs, ImagesArgs, InspectArgs, ProgressMode, PullArgs, PushArgs, RmiArgs,
    TagArgs, parse_platform,
};
use crate::{exit, progress, table};

const SHORT: usize = 12;

/// Downloads an image.
pub(crate) fn pull(session: &Session, args: &PullArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let reference = reference(&args.image)?;
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let image = with_progress(args.quiet, |events| {
        engine.pull(&reference, platform.as_ref(), events)
    })?;
    if args.quiet {
        println!("{}", image.id);
    } else {
        println!("{}", reference.familiar());
    }
    Ok(ExitCode::SUCCESS)
}

/// Uploads an image.
pub(crate) fn push(session: &Session, args: &PushArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let reference = reference(&args.image)?;
    let descriptor = with_progress(args.quiet, |events| engine.push(&reference, events))?;
    if args.quiet {
        println!("{}", descriptor.digest);
    } else {
        println!(
            "{}: digest: {} size: {}",
            reference.familiar(),
            descriptor.digest,
            descriptor.size
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs an engine call with plain progress on the error stream.
pub(super) fn with_progress<T, E>(
    quiet: bool,
    call: impl FnOnce(&Events) -> Result<T, E>,
) -> Result<T, E> {
    let mode = if quiet {
        ProgressMode::Quiet
    } else {
        ProgressMode::Auto
    };
    let (events, receiver) = Events::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || progress::render(mode, false, &receiver, SystemTime::now()));
        let result = call(&events);
        drop(events);
        result
    })
}

fn reference(text: &str) -> Result<Reference> {
    text.parse()
        .with_context(|| format!("{text} is no image reference"))
}

/// Lists images.
pub(crate) fn list(session: &Session, args: &ImagesArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let wanted = args.repository.as_deref().map(reference).transpose()?;
    let tagged = args
        .repository
        .as_deref()
        .is_some_and(|text| text.rsplit('/').next().unwrap_or(text).contains(':'));
    let matches = |image: &ImageSummary| match (&wanted, &image.name) {
        (None, _) => true,
        (Some(wanted), Some(name)) => {
            name.name() == wanted.name() && (!tagged || name.tag() == wanted.tag())
        }
        (Some(_), None) => false,
    };
    let images: Vec<ImageSummary> = engine.images()?.into_iter().filter(matches).collect();
    if args.quiet {
        let mut ids: Vec<String> = images
            .iter()
            .map(|image| id(image, args.no_trunc))
            .collect();
        ids.dedup();
        ids.iter().for_each(|id| println!("{id}"));
        return Ok(ExitCode::SUCCESS);
    }
    match &args.format {
        Format::Table => println!("{}", images_table(&images, args)),
        Format::Json => images
            .iter()
            .for_each(|image| println!("{}", Value::Object(fields(image)))),
        Format::Template(template) => {
            let readable = |image| readable(image, args.no_trunc);
            let rows: Vec<_> = images.iter().map(readable).collect();
            let text = template.render(&rows).map_err(anyhow::Error::msg)?;
            println!("{text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn id(image: &ImageSummary, whole: bool) -> String {
    if whole {
        image.id.to_string()
    } else {
        image.id.hex()[..SHORT].to_string()
    }
}

fn images_table(images: &[ImageSummary], args: &ImagesArgs) -> String {
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            let (repository, tag) = names(image);
            let mut row = vec![repository, tag];
            if args.digests {
                row.push(
                    image
                        .manifest
                        .map_or("<none>".into(), |digest| digest.to_string()),
                );
            }
            row.extend([
                id(image, args.no_trunc),
                age(image),
                table::size(image.size),
            ]);
            row
        })
        .collect();
    if args.digests {
        table::layout(
            &["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"],
            &rows,
        )
    } else {
        table::layout(&["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"], &rows)
    }
}

/// How long ago it was made.
fn age(image: &ImageSummary) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    table::ago(now.saturating_sub(u64::try_from(image.created).unwrap_or(0)))
}

fn names(image: &ImageSummary) -> (String, String) {
    let none = || "<none>".to_string();
    match &image.name {
        Some(name) => {
            let familiar = name.familiar().to_string();
            let tag = name.tag().map_or_else(none, String::from);
            (
                familiar
                    .strip_suffix(&format!(":{tag}"))
                    .unwrap_or(&familiar)
                    .to_string(),
                tag,
            )
        }
        None => (none(), none()),
    }
}

fn fields(image: &ImageSummary) -> Map<String, Value> {
    let (repository, tag) = names(image);
    let fields = json!({
        "Repository": repository,
        "Tag": tag,
        "ID": image.id.to_string(),
        "Digest": image.manifest.map(|digest| digest.to_string()),
        "Created": image.created,
        "Size": image.size,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => unreachable!("it was written as an object"),
    }
}

/// The same for people, with docker's names: short ids, sizes with units, ages.
fn readable(image: &ImageSummary, whole: bool) -> Map<String, Value> {
    let mut fields = fields(image);
    let digest = image.manifest.map(|digest| digest.to_string());
    for (name, text) in [
        ("ID", id(image, whole)),
        ("Digest", digest.unwrap_or_else(|| "<none>".into())),
        ("CreatedSince", age(image)),
        ("Size", table::size(image.size)),
    ] {
        fields.insert(name.into(), text.into());
    }
    fields
}

/// Gives an image another name.
pub(crate) fn tag(session: &Session, args: &TagArgs) -> Result<ExitCode> {
    session
        .engine()?
        .tag(&args.source, &reference(&args.target)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Removes images.
pub(crate) fn remove(session: &Session, args: &RmiArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let mut failed = false;
    for image in &args.images {
        match engine.untag(image, args.force) {
            Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
            Err(error) => {
                failed = true;
                eprintln!("{}", crate::failure::render(&error.into(), super::color()));
            }
        }
    }
    Ok(if failed {
        exit::FAILURE.into()
    } else {
        ExitCode::SUCCESS
    })
}

/// Shows images as JSON.
pub(crate) fn inspect(session: &Session, args: &InspectArgs) -> Result<ExitCode> {
    let engine = session.engine()?;
    let found: Vec<Value> = args
        .images
        .iter()
        .map(|image| details(&engine, image))
        .collect::<Result<_>>()?;
    println!("{:#}", Value::Array(found));
    Ok(ExitCode::SUCCESS)
}

fn details(engine: &Engine, name: &str) -> Result<Value> {
    let image = engine.inspect(name)?;
    let config = &image.config;
    let names: Vec<String> = image
        .names
        .iter()
        .map(|name| name.familiar().to_string())
        .collect();
    let digests: Vec<String> = match image.manifest {
        Some(digest) => image
            .names
            .iter()
            .map(|name| format!("{}@{digest}", name.name()))
            .collect(),
        None => Vec::new(),
    };
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": names,
        "RepoDigests": digests,
        "Created": config.created,
        "Author": config.author,
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": image.size,
        "Config": config.config,
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
    }))
}

/// Shows how an image was made.
pub(crate) fn history(session: &Session, args: &HistoryArgs) -> Result<ExitCode> {
    const SHOWN: usize = 60;
    let engine = session.engine()?;
    let image = engine.inspect(&args.image)?;
    let mut sizes = image.layer_sizes.iter();
    let mut rows = Vec::new();
    for entry in &image.config.history {
        let size = if entry.empty_layer {
            0
        } else {
            sizes
                .next()
                .copied()
                .context("the image has fewer layers than its history")?
        };
        let mut by = entry.created_by.clone();
        if !args.no_trunc && by.chars().count() > SHOWN {
            by = by.chars().take(SHOWN - 1).chain(['…']).collect();
        }
        rows.push(vec![
            entry
                .created
                .map(|time| time.to_string())
                .unwrap_or_default(),
            by,
            table::size(size),
            entry.comment.clone(),
        ]);
    }
    rows.reverse();
    if rows.is_empty() {
        bail!("{} has no history", args.image);
    }
    println!(
        "{}",
        table::layout(&["CREATED", "CREATED BY", "SIZE", "COMMENT"], &rows)
    );
    Ok(ExitCode::SUCCESS)
}
