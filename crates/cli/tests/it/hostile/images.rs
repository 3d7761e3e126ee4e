//! Images whose layers nobody should trust.

use std::path::PathBuf;

use testkit::Archive;

use super::{Yard, new};
use crate::harness::Project;

/// An image as a directory in the OCI layout, with these tars as layers.
fn image(project: &Project, layers: &[Archive]) -> PathBuf {
    let blobs = "image/blobs/sha256";
    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = oci::Digest::sha256(bytes).to_string();
        project.write(&format!("{blobs}/{}", &digest["sha256:".len()..]), bytes);
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    };
    let prefix = "application/vnd.oci.image";
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            blob(
                &format!("{prefix}.layer.v1.tar"),
                &Archive(layer.0.clone()).end(),
            )
        })
        .collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(
        &format!("{prefix}.config.v1+json"),
        config.to_string().as_bytes(),
    );
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": format!("{prefix}.manifest.v1+json"), "config": config, "layers": layers,
    });
    let manifest = blob(
        &format!("{prefix}.manifest.v1+json"),
        manifest.to_string().as_bytes(),
    );
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    project.write("image/index.json", index.to_string());
    project.write("image/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    project.path("image")
}

#[test]
fn images_that_lead_outside() {
    let yard = Yard::new();
    yard.project.write("f", "f");
    let (outside, upwards) = (yard.outside.clone(), yard.upwards());
    let inside = outside.trim_start_matches('/').to_string();
    let link = |name: &str, target: &str| new().entry(b'2', name, target, b"");
    let marks = [
        ("SCHILY.xattr.trusted.overlay.redirect", "/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", "y"),
        ("SCHILY.xattr.user.overlay.whiteout", "y"),
    ];
    let copy = "COPY f /out/f";
    for (what, layers, instruction, expected) in [
        (
            "an absolute link as destination",
            vec![link("out", &format!("{outside}/drop"))],
            copy,
            Ok(format!("{inside}/drop/f=f")),
        ),
        (
            "a link upwards as destination",
            vec![link("out", &format!("{upwards}/drop"))],
            copy,
            Ok(format!("{inside}/drop/f=f")),
        ),
        (
            "a link as file",
            vec![link("out/f", &format!("{outside}/secret"))],
            copy,
            Ok(format!("{inside}/secret=f")),
        ),
        (
            "a working directory",
            vec![link("out", &upwards)],
            "WORKDIR /out/w\nCOPY f .",
            Ok(format!("{inside}/w/f=f")),
        ),
        (
            "a source",
            vec![link("out", &outside)],
            "COPY --from=base out/secret /",
            Err("does not exist"),
        ),
        (
            "users",
            vec![link("etc/passwd", &format!("{outside}/secret"))],
            "COPY --chown=root f /",
            Err("unable to find user root"),
        ),
        (
            "a directory over a link",
            vec![link("d", &outside), new().file("d/f", b"1")],
            copy,
            Ok("d/f=1".into()),
        ),
        (
            "a whiteout upwards",
            vec![new().file("a", b"1"), new().file("../.wh.a", b"")],
            copy,
            Ok("out/f=f".into()),
        ),
        (
            "a whiteout of nothing",
            vec![new().file("d/.wh.", b"")],
            copy,
            Err("whites out no name"),
        ),
        (
            "a whiteout of the parent",
            vec![new().file("d/.wh...", b"")],
            copy,
            Err("whites out no name"),
        ),
        (
            "marks of overlayfs",
            vec![
                new().file("d/a", b"1"),
                new().pax(b'x', &marks).entry(b'5', "d", "", b""),
            ],
            copy,
            Ok("d/a=1".into()),
        ),
        (
            "a hard link into another layer",
            vec![new().file("a", b"1"), new().entry(b'1', "b", "a", b"")],
            copy,
            Err("hard link to nothing"),
        ),
        (
            "a device number that Linux has not",
            vec![new().patched(b'3', "c", &[(329, b"7777777\x007777777\0")], b"")],
            copy,
            Err("device number"),
        ),
    ] {
        yard.project.host("rm -rf image o; mkdir o");
        image(&yard.project, &layers);
        yard.project
            .write("Dockerfile", format!("FROM base\n{instruction}\n"));
        let context = "base=oci-layout://image";
        let arguments = [
            "build",
            "--build-context",
            context,
            "-o",
            "type=tar,dest=out.tar",
            "-o",
            "type=local,dest=o",
            ".",
        ];
        let output = yard.project.kiln(&arguments);
        match &expected {
            Ok(path) => yard.check(what, output, Ok(&[path])),
            Err(says) => yard.check(what, output, Err(says)),
        }
    }
}
