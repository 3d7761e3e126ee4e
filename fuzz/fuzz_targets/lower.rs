//! Any file lowers to a sound graph or to errors that have a place in it; asking comes to an end.
#![no_main]

use std::sync::Arc;

use frontend::{Context, Known, LowerRequest, Lowering, Need, ResolvedImage, lower};
use libfuzzer_sys::fuzz_target;
use oci::{Digest, ImageConfig, Platform};

fuzz_target!(|input: (u8, &str)| {
    let (options, text) = input;
    let file = dockerfile::parse(text.as_bytes()).dockerfile;
    let request = request(options);
    let mut known = Known::new();
    // Base images first, then what their triggers refer to.
    for _ in 0..3 {
        match lower(&file, &request, &known) {
            Err(error) => {
                let lacking = file.loss != dockerfile::ast::Loss::Nothing;
                assert!(lacking || error.diagnostics.iter().any(dockerfile::Diagnostic::is_error));
                let labels = error.diagnostics.iter().flat_map(|one| &one.labels);
                assert!(labels.into_iter().all(|label| text.get(label.span.range()).is_some()));
                return;
            }
            Ok(Lowering::Done(lowered)) => {
                for (edge, vertex) in lowered.definition.iter() {
                    assert!(vertex.inputs.iter().all(|input| input.edge < edge));
                }
                assert!(lowered.definition.to_string().len() < 64 << 20);
                return;
            }
            Ok(Lowering::Needs(needs)) => {
                for need in needs {
                    let image = image(&need, options);
                    known.insert(need, Ok(image));
                }
            }
        }
    }
    panic!("lowering asks for ever");
});

fn request(options: u8) -> LowerRequest {
    let mut request = LowerRequest::new(Platform::new("linux", "amd64", None));
    request.all_stages = options & 1 != 0;
    request.without_images = options & 128 != 0;
    request.multi_platform = options & 2 != 0;
    if options & 4 != 0 {
        request.platform = Some(Platform::new("linux", "arm", Some("v7")));
    }
    if options & 8 != 0 {
        let ignore = vec!["*.o".to_owned(), "a".to_owned()];
        request.context = Context::Files { ignore };
    }
    if options & 16 != 0 {
        request.build_args.insert("A".to_owned(), Some("${A}/../$B".to_owned()));
        request.named_contexts.insert("a".to_owned(), Context::Layout);
    }
    request
}

fn image(need: &Need, options: u8) -> ResolvedImage {
    let mut config = ImageConfig::default();
    config.config.env = vec!["PATH=/bin".to_owned(), "B=x y".to_owned()];
    if options & 32 != 0 {
        let triggers = ["RUN $B", "COPY --from=a / /", "COPY --from=b . ${B"];
        config.config.on_build = triggers.map(str::to_owned).into();
    }
    if options & 64 != 0 {
        config.rootfs.diff_ids = vec![oci::DiffId::new(Digest::sha256("layer"))];
    }
    ResolvedImage {
        reference: "image".parse().expect("a valid name"),
        manifest: Digest::sha256(need.to_string()),
        config: Arc::new(config),
    }
}
