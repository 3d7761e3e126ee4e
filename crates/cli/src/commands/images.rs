//! Images of the store: pull, push, list, name, remove, show.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use engine::event::Events;
use engine::request::Destination;
use engine::{Archive, Engine, ImageSummary};
use oci::Reference;
use serde_json::{Value, json};

use super::Session;
use crate::args::{
    HistoryArgs, ImagesArgs, InspectArgs, LoadArgs, ProgressMode, PullArgs, PushArgs, RmiArgs,
    SaveArgs, TagArgs, parse_platform,
};
use crate::format::Format;
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

/// Loads images from an archive.
pub(crate) fn load(session: &Session, args: LoadArgs) -> Result<ExitCode> {
    let archive = match args.input {
        Some(path) => Archive::Path(path),
        None if std::io::stdin().is_terminal() => {
            bail!("an archive on standard input, or --input FILE, is needed")
        }
        None => Archive::Stream((super::ENVIRONMENT.stdin_file)()?),
    };
    let platform = args.platform.as_deref().map(parse_platform).transpose()?;
    let engine = session.engine()?;
    let loaded = with_progress(args.quiet, |events| {
        engine.load(&archive, platform.as_ref(), events)
    })?;
    for image in loaded {
        match image.name {
            Some(name) => println!("Loaded image: {}", name.familiar()),
            None => println!("Loaded image ID: {}", image.id),
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes images to an archive.
pub(crate) fn save(session: &Session, args: &SaveArgs) -> Result<ExitCode> {
    let destination = match &args.output {
        Some(path) => Destination::Path(path.clone()),
        None if std::io::stdout().is_terminal() => bail!(
            "an archive is not for a terminal: name a file with --output, or redirect standard output"
        ),
        None => Destination::Stdout,
    };
    let platforms = args
        .platform
        .iter()
        .map(|text| parse_platform(text))
        .collect::<Result<Vec<_>>>()?;
    let stdout = (super::ENVIRONMENT.stdout)().context("cannot use standard output")?;
    let engine = session.engine()?;
    with_progress(false, |events| {
        engine.save(
            &args.images,
            &platforms,
            &destination,
            Some(&stdout),
            events,
        )
    })?;
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
    let text = args.repository.as_deref();
    let tagged = text.is_some_and(|text| !Reference::is_repository(text));
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
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let rows: Vec<Value> = images
        .iter()
        .map(|image| summary(image, now, args.no_trunc))
        .collect();
    let lines = args.format.lines(&rows, &HEADINGS)?;
    print!(
        "{}",
        lines.unwrap_or_else(|| images_table(&rows, args.digests) + "\n")
    );
    Ok(ExitCode::SUCCESS)
}

fn id(image: &ImageSummary, whole: bool) -> String {
    if whole {
        image.id.to_string()
    } else {
        image.id.hex()[..SHORT].to_string()
    }
}

/// Fields of `--format` and what stands above their columns.
const HEADINGS: [(&str, &str); 9] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("Size", "SIZE"),
    ("CreatedAt", "CREATED AT"),
    ("Created", "CREATED"),
    ("Bytes", "BYTES"),
];

/// The first columns of [`HEADINGS`].
fn images_table(rows: &[Value], digests: bool) -> String {
    const SHOWN: usize = 6;
    let columns = HEADINGS[..SHOWN]
        .iter()
        .filter(|(field, _)| digests || *field != "Digest");
    let (fields, headings): (Vec<&str>, Vec<&str>) = columns.copied().unzip();
    let cell = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_string();
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| fields.iter().map(|field| cell(row, field)).collect())
        .collect();
    table::layout(&headings, &rows)
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

/// An image in docker's words, and its time in seconds since 1970 and its size in bytes.
fn summary(image: &ImageSummary, now: u64, whole_id: bool) -> Value {
    let (repository, tag) = names(image);
    let age = now.saturating_sub(u64::try_from(image.created).unwrap_or(0));
    let digest = image.manifest.map(|digest| digest.to_string());
    json!({
        "Repository": repository,
        "Tag": tag,
        "ID": id(image, whole_id),
        "Digest": digest.unwrap_or_else(|| "<none>".into()),
        "Created": image.created,
        "CreatedAt": time(image.created),
        "CreatedSince": table::ago(age),
        "Size": table::size(image.size),
        "Bytes": image.size,
    })
}

/// A time as docker's tables show it, in UTC.
fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string(),
        Err(_) => String::new(),
    }
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
    let lines = match &args.format {
        Format::Json => None,
        format => format.lines(&found, &[])?,
    };
    print!(
        "{}",
        lines.unwrap_or_else(|| format!("{:#}\n", Value::Array(found)))
    );
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
        "Config": with_all_fields(serde_json::to_value(&config.config)?),
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
    }))
}

/// A config that says of every field that it may have what is there: a template can ask for it.
fn with_all_fields(mut config: Value) -> Value {
    const FIELDS: [&str; 12] = [
        "Cmd",
        "Entrypoint",
        "Env",
        "ExposedPorts",
        "Healthcheck",
        "Labels",
        "OnBuild",
        "Shell",
        "StopSignal",
        "User",
        "Volumes",
        "WorkingDir",
    ];
    for field in FIELDS {
        // Indexing a map makes the field, with null in it.
        let _ = &mut config[field];
    }
    config
}

/// Shows how an image was made.
pub(crate) fn history(session: &Session, args: &HistoryArgs) -> Result<ExitCode> {
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
        rows.push(json!({
            "CreatedAt": entry.created.map(|time| time.to_string()).unwrap_or_default(),
            "CreatedBy": shortened(&entry.created_by, args.no_trunc),
            "Size": table::size(size),
            "Bytes": size,
            "Comment": entry.comment,
        }));
    }
    rows.reverse();
    if rows.is_empty() {
        bail!("{} has no history", args.image);
    }
    let shown = match &args.format {
        Format::Own => &OWN_HISTORY.parse().map_err(anyhow::Error::msg)?,
        format => format,
    };
    let headings = [
        ("CreatedAt", "CREATED"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Bytes", "BYTES"),
        ("Comment", "COMMENT"),
    ];
    print!("{}", shown.lines(&rows, &headings)?.unwrap_or_default());
    Ok(ExitCode::SUCCESS)
}

/// The table of `kiln history`.
const OWN_HISTORY: &str = "table {{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

fn shortened(instruction: &str, whole: bool) -> String {
    const SHOWN: usize = 60;
    if whole || instruction.chars().count() <= SHOWN {
        return instruction.into();
    }
    instruction.chars().take(SHOWN - 1).chain(['…']).collect()
}
