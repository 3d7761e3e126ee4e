//! Properties that hold for every file.

use dockerfile::Dockerfile;
use frontend::Lowered;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::case;

/// Lines that, in any order, exercise most of the lowering. Some orders are errors.
const LINES: &[&str] = &[
    "FROM busybox",
    "FROM scratch",
    "FROM busybox AS a",
    "FROM a AS b",
    "FROM b",
    "FROM $BASE AS c",
    "ARG BASE=alpine",
    "ARG X=1",
    "ARG X",
    "ENV X=$X-2 Y=3",
    "LABEL l=$X",
    "RUN echo $X",
    "RUN [\"true\"]",
    "RUN --mount=type=cache,target=/c --mount=type=secret,id=s make",
    "RUN --mount=from=a,target=/a,source=$X ls",
    "RUN <<EOF\necho\nEOF",
    "COPY . /src/",
    "COPY --from=a /x /y",
    "COPY --from=0 /x /y",
    "COPY --link --from=nginx *.c $X/",
    "COPY --chmod=u+x --exclude=*.o --parents a/./b /d",
    "COPY <<EOF /f\n$X\nEOF",
    "ADD https://example.com/x https://h/r.git#v1 local /d/",
    "WORKDIR $X/sub",
    "WORKDIR /",
    "USER me:us",
    "SHELL [\"/bin/bash\", \"-c\"]",
    "CMD run",
    "ENTRYPOINT [\"/e\"]",
    "EXPOSE 80-82 $X/udp",
    "ONBUILD RUN trigger",
    "ONBUILD COPY --from=a /x /z",
    "# a comment",
];

fn file() -> impl Strategy<Value = String> {
    let lines = prop::collection::vec(prop::sample::select(LINES), 0..25);
    lines.prop_map(|lines| format!("FROM busybox AS first\n{}\n", lines.join("\n")))
}

fn parse(text: &str) -> Dockerfile {
    dockerfile::parse(text.as_bytes()).dockerfile
}

fn lower(text: &str) -> Option<Lowered> {
    case::lower_fully(&parse(text), &Value::Null).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Inputs precede consumers, everything is needed, and each layer of the history is the
    /// result of another vertex, in order.
    #[test]
    fn the_graph_is_sound(text in file()) {
        let Some(lowered) = lower(&text) else { return Ok(()) };
        for (edge, vertex) in lowered.definition.iter() {
            prop_assert!(vertex.inputs.iter().all(|input| input.edge < edge));
        }
        let layers: Vec<_> = lowered.image.history.iter().filter_map(|entry| entry.layer).collect();
        prop_assert!(layers.is_sorted_by(|a, b| a < b), "{:?}", layers);
        if let Some(last) = layers.last() {
            prop_assert_eq!(Some(*last), lowered.target);
        }
    }

    #[test]
    fn lowering_is_a_function(text in file()) {
        let (Some(one), Some(two)) = (lower(&text), lower(&text)) else { return Ok(()) };
        prop_assert_eq!(one.definition, two.definition);
        prop_assert_eq!(one.image, two.image);
    }

    /// K18: a label changes no vertex, wherever it stands.
    #[test]
    fn labels_change_no_vertex(text in file(), at in any::<prop::sample::Index>()) {
        let Some(lowered) = lower(&text) else { return Ok(()) };
        let parsed = parse(&text);
        let stage = &parsed.stages[at.index(parsed.stages.len())];
        let mut labelled = text.clone();
        let end = stage.from.span.end;
        labelled.insert_str(end, "\nLABEL more=labels");
        let Some(other) = lower(&labelled) else {
            return Err(TestCaseError::fail("a label made an error"));
        };
        let digests = |lowered: &Lowered| -> Vec<_> {
            lowered.definition.vertices().iter().map(|vertex| vertex.digest).collect()
        };
        prop_assert_eq!(digests(&lowered), digests(&other));
    }

    /// Nothing in a file, and nothing that surrounds it, makes lowering panic.
    #[test]
    fn arbitrary_text_lowers_or_is_an_error(text in "\\PC{0,200}", target in "\\PC{0,5}") {
        let text = format!("FROM busybox AS a\nRUN {text}\nCOPY {text} /x\nFROM {text}\n{text}\n");
        let request = json!({ "target": target, "args": { "A": text } });
        let _ = case::run(text.as_bytes(), &request);
    }
}

/// Two platforms of one file merge into one graph, in which what does not depend on the platform
/// stands once.
#[test]
fn platforms_share_what_is_equal() {
    let text = "FROM --platform=linux/amd64 golang AS build\nRUN fetch\nARG TARGETARCH\nRUN build\n\
                FROM scratch\nCOPY --from=build /x /x\n";
    let file = parse(text);
    let mut builder = graph::Builder::new();
    let mut targets = Vec::new();
    let mut separate = 0;
    for platform in ["linux/amd64", "linux/arm64"] {
        let request = json!({ "platform": platform });
        let lowered = case::lower_fully(&file, &request).expect("lowers");
        separate += lowered.definition.vertices().len();
        let target = lowered.target.expect("target");
        targets.push(builder.absorb(lowered.definition)[target.index()]);
    }
    let merged = builder.finish();
    assert_eq!((separate, merged.vertices().len()), (8, 6));
    assert_ne!(targets[0], targets[1]);
    assert!(merged.reachable(&targets).iter().all(|needed| *needed));
}
