//! One case of `testdata/dockerfiles`: reads the request, answers what lowering asks, and prints the
//! outcome as the texts that are compared.
//!
//! ```text
//! <case>/Dockerfile        the input
//! <case>/request.json      what differs from the default request; may be missing
//! <case>/graph.txt         the definition
//! <case>/image.json        config, history, platform and what else is not in the graph
//! <case>/diagnostics.txt   errors and warnings, parser's included; missing when there are none
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use dockerfile::{Diagnostic, LineIndex};
use frontend::{
    Context, Known, LowerRequest, Lowered, Lowering, Need, NoCache, NotResolved, ResolvedImage,
    SourceDateEpoch, lower,
};
use oci::{Digest, ImageConfig, Platform};
use serde_json::{Value, json};

/// What a case comes to.
pub(crate) struct Outcome {
    pub(crate) graph: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) diagnostics: Option<String>,
}

/// Parses and lowers, answering every need.
pub(crate) fn run(text: &[u8], request: &Value) -> Outcome {
    let (file, diagnostics, lowered) = compile(text, request);
    let failed = diagnostics.iter().any(Diagnostic::is_error);
    let lowered = lowered.filter(|_| !failed);
    Outcome {
        graph: lowered
            .as_ref()
            .map(|lowered| lowered.definition.to_string()),
        image: lowered.as_ref().map(image),
        diagnostics: (!diagnostics.is_empty()).then(|| print(file.source.text(), &diagnostics)),
    }
}

/// What parsing and lowering find.
pub(crate) fn diagnostics(text: &[u8], request: &Value) -> Vec<Diagnostic> {
    compile(text, request).1
}

fn compile(
    text: &[u8],
    request: &Value,
) -> (dockerfile::Dockerfile, Vec<Diagnostic>, Option<Lowered>) {
    let parse = dockerfile::parse(text);
    let mut file = parse.dockerfile;
    if let Some(checks) = request["args"]["BUILDKIT_DOCKERFILE_CHECK"].as_str() {
        file.checks = dockerfile::lint::Checks::parse(checks).expect("checks");
    }
    let mut diagnostics = file.checks.apply(&file, parse.diagnostics);
    // The parser has said already that a file has no stage; one that is wrong asks for nothing.
    let mut request = if request.is_null() {
        json!({})
    } else {
        request.clone()
    };
    if diagnostics.iter().any(Diagnostic::is_error) {
        request["without_images"] = json!(true);
    }
    let lowered = match file.stages.is_empty() {
        true => None,
        false => match lower_fully(&file, &request) {
            Ok(lowered) => {
                diagnostics.extend(lowered.diagnostics.iter().cloned());
                Some(lowered)
            }
            Err(error) => {
                diagnostics.extend(error.diagnostics);
                None
            }
        },
    };
    (file, diagnostics, lowered)
}

/// Lowers until nothing is asked any more.
pub(crate) fn lower_fully(
    file: &dockerfile::Dockerfile,
    options: &Value,
) -> Result<Lowered, frontend::LowerError> {
    let request = request(options);
    let mut known = Known::new();
    for _ in 0..4 {
        match lower(file, &request, &known)? {
            Lowering::Done(lowered) => return Ok(*lowered),
            Lowering::Needs(needs) => {
                for need in needs {
                    let answer = answer(&need, &options["images"]);
                    known.insert(need, answer);
                }
            }
        }
    }
    panic!("lowering asks for ever");
}

fn request(options: &Value) -> LowerRequest {
    let platform = |value: &Value| {
        value
            .as_str()
            .map(|text| text.parse::<Platform>().expect(text))
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let texts = |value: &Value| -> Vec<String> {
        let list = value.as_array().into_iter().flatten();
        list.map(|item| text(item).expect("text")).collect()
    };
    let mut request = LowerRequest::new("linux/amd64".parse().expect("platform"));
    request.target = text(&options["target"]);
    request.all_stages = options["all_stages"].as_bool().unwrap_or(false);
    request.without_images = options["without_images"].as_bool().unwrap_or(false);
    request.platform = platform(&options["platform"]);
    request.multi_platform = options["multi_platform"].as_bool().unwrap_or(false);
    if let Some(build) = platform(&options["build_platform"]) {
        request.build_platform = build;
    }
    for (name, value) in options["args"].as_object().into_iter().flatten() {
        request.build_args.insert(name.clone(), text(value));
    }
    for (name, value) in options["labels"].as_object().into_iter().flatten() {
        request
            .labels
            .insert(name.clone(), text(value).expect("label"));
    }
    request.context = match options["context"].as_str() {
        Some("none") => Context::None,
        _ => Context::Files {
            ignore: texts(&options["ignore"]),
        },
    };
    for (name, value) in options["contexts"].as_object().into_iter().flatten() {
        let value = value.as_str().expect("context");
        let context = match value.split_once("://") {
            Some(("docker-image", image)) => Context::Image(image.parse().expect("image")),
            Some(("oci-layout", _)) => Context::Layout,
            _ => Context::Files { ignore: Vec::new() },
        };
        request.named_contexts.insert(name.clone(), context);
    }
    request.no_cache = match &options["no_cache"] {
        Value::Bool(true) => NoCache::All,
        Value::Array(_) => NoCache::Stages(texts(&options["no_cache"]).into_iter().collect()),
        _ => NoCache::Never,
    };
    if options["network"] == "none" {
        request.network = graph::Network::None;
    }
    for (name, address) in options["hosts"].as_object().into_iter().flatten() {
        request
            .extra_hosts
            .push((name.clone(), text(address).expect("address")));
    }
    request.limits.shm_size = options["shm_size"].as_u64();
    request.hostname = text(&options["hostname"]);
    request.cache_namespace = text(&options["cache_namespace"]);
    request
}

/// Every image exists and is like busybox, unless the case says otherwise; `null` is an image that
/// does not exist.
fn answer(need: &Need, images: &Value) -> Result<ResolvedImage, NotResolved> {
    let (name, reference, platform) = match need {
        Need::Image {
            reference,
            platform,
        } => (
            reference.familiar().to_string(),
            reference.clone(),
            platform,
        ),
        Need::Layout { context, platform } => {
            (context.clone(), "layout".parse().expect("name"), platform)
        }
    };
    let known = images.get(&name);
    if known.is_some_and(Value::is_null) {
        return Err(NotResolved {
            message: "the registry has no such image".to_owned(),
            help: None,
        });
    }
    let mut config: ImageConfig = match known {
        Some(value) => serde_json::from_value(value.clone()).expect("image config"),
        None => busybox(),
    };
    if config.os.is_empty() {
        config.set_platform(platform);
    }
    Ok(ResolvedImage {
        reference,
        manifest: Digest::sha256(format!("{name} {platform}")),
        config: Arc::new(config),
    })
}

fn busybox() -> ImageConfig {
    let layer = Digest::sha256("layer");
    let value = json!({
        "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
        "history": [{ "created_by": "busybox" }],
    });
    serde_json::from_value(value).expect("busybox")
}

/// What is not in the graph, as JSON.
fn image(lowered: &Lowered) -> String {
    let image = &lowered.image;
    let history: Vec<Value> = image
        .history
        .iter()
        .map(|entry| {
            let mut value = serde_json::to_value(&entry.entry).expect("history");
            assert_eq!(value["comment"], "buildkit.dockerfile.v0");
            value.as_object_mut().expect("object").remove("comment");
            if let Some(edge) = entry.layer {
                value["layer"] = json!(edge.to_string());
            }
            value
        })
        .collect();
    let mut value = json!({
        "target": lowered.target.map(|edge| edge.to_string()),
        "platform": image.platform.to_string(),
        "config": image.config,
        "history": history,
    });
    let optional = [
        ("author", json!(image.author)),
        (
            "base_history",
            json!(image.base.as_ref().map_or(0, |base| base.history.len())),
        ),
        ("secrets", requests(&lowered.secrets)),
        ("ssh", requests(&lowered.ssh)),
        (
            "entitlements",
            json!(
                lowered
                    .entitlements
                    .iter()
                    .map(|e| format!("{e:?}"))
                    .collect::<Vec<_>>()
            ),
        ),
        ("outline", outline(lowered)),
        (
            "source_date_epoch",
            json!(lowered.source_date_epoch.as_ref().map(epoch)),
        ),
    ];
    for (name, part) in optional {
        let trivial = part.is_null()
            || part == 0
            || part == ""
            || part.as_array().is_some_and(Vec::is_empty)
            || part.as_object().is_some_and(serde_json::Map::is_empty);
        if !trivial {
            value[name] = part;
        }
    }
    serde_json::to_string_pretty(&value).expect("JSON") + "\n"
}

fn epoch(epoch: &SourceDateEpoch) -> String {
    match epoch {
        SourceDateEpoch::Seconds(seconds) => seconds.to_string(),
        SourceDateEpoch::Context => "context".to_owned(),
        SourceDateEpoch::NamedContext(name) => format!("context {name}"),
        SourceDateEpoch::Source(edge) => format!("source {edge}"),
    }
}

fn requests(list: &[frontend::Request]) -> Value {
    list.iter()
        .map(|one| json!({ "id": one.id, "required": one.required }))
        .collect()
}

fn outline(lowered: &Lowered) -> Value {
    let outline = &lowered.outline;
    let args: BTreeMap<&str, Value> = outline
        .args
        .iter()
        .map(|arg| (arg.name.as_str(), json!([arg.value, arg.description])))
        .collect();
    let caches: Vec<&str> = outline
        .caches
        .iter()
        .map(|cache| cache.id.as_str())
        .collect();
    let mut value = json!({});
    if !args.is_empty() {
        value["args"] = json!(args);
    }
    if !caches.is_empty() {
        value["caches"] = json!(caches);
    }
    if !outline.description.is_empty() {
        value["description"] = json!(outline.description);
    }
    value
}

/// One paragraph a finding.
fn print(text: &str, diagnostics: &[Diagnostic]) -> String {
    let index = LineIndex::new(text);
    let mut out = String::new();
    for diagnostic in diagnostics {
        let severity = if diagnostic.is_error() {
            "error"
        } else {
            "warning"
        };
        let code = diagnostic.code.as_str();
        writeln!(out, "{severity}[{code}]: {}", diagnostic.message).expect("String");
        for label in &diagnostic.labels {
            let start = index.position(text, label.span.start);
            let shown = text
                .get(label.span.range())
                .unwrap_or("<outside of the file>");
            let (line, column) = (start.line, start.column);
            write!(out, "  {line}:{column} {shown:?} {}", label.text).expect("String");
            out.truncate(out.trim_end().len());
            out.push('\n');
        }
        for note in &diagnostic.notes {
            writeln!(out, "  note: {note}").expect("String");
        }
        if let Some(help) = &diagnostic.help {
            writeln!(out, "  help: {help}").expect("String");
        }
    }
    out
}
