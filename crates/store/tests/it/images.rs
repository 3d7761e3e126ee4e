use oci::{Descriptor, MediaType, Platform, Reference};
use store::{Image, ImageLayer, ImageManifest, PrunePolicy, Store, StoreError};

use crate::fixture::{Fixture, check_healthy, shared_layer};

fn image(store: &Store, config: &[u8], layers: &[&[u8]]) -> Image {
    store.put_blob(config).unwrap();
    let layer = |bytes: &&[u8]| {
        let id = shared_layer(store, bytes);
        ImageLayer {
            diff_id: id.diff_id().unwrap(),
            id,
            blob: None,
        }
    };
    let manifest = ImageManifest {
        platform: Platform::native(),
        config: Descriptor::of(MediaType::OciConfig, config),
        manifest: None,
        layers: layers.iter().map(layer).collect(),
        annotations: oci::Annotations::new(),
        descriptor_annotations: oci::Annotations::new(),
    };
    Image {
        manifests: vec![manifest],
        index: None,
        annotations: oci::Annotations::new(),
        created: 1,
    }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

#[test]
fn names_lead_to_images() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (old, new) = (
        image(&store, b"old", &[b"a"]),
        image(&store, b"new", &[b"a", b"b"]),
    );
    let (app, copy) = (reference("app:1"), reference("example.org/copy"));
    store.tag(&old, Some(&app)).unwrap();
    store.tag(&old, Some(&copy)).unwrap();
    store.tag(&new, Some(&app)).unwrap();
    assert_eq!(store.image(&app).unwrap(), Some(new.clone()));
    assert_eq!(store.image(&copy).unwrap(), Some(old.clone()));
    assert_eq!(store.resolve("app:1").unwrap(), Some(new.clone()));
    assert_eq!(
        store.resolve(&new.id().to_string()).unwrap(),
        Some(new.clone())
    );
    assert_eq!(
        store.resolve(&new.id().hex()[..12]).unwrap(),
        Some(new.clone())
    );
    assert_eq!(store.resolve("nothing").unwrap(), None);
    assert_eq!(store.images().unwrap().len(), 2);
    assert!(store.untag(&copy).unwrap());
    assert!(!store.untag(&copy).unwrap());
    assert_eq!(store.image_by_id(&old.id()).unwrap(), Some(old));
    assert_eq!(
        store.remove_image(&new.id()).unwrap(),
        std::slice::from_ref(&app)
    );
    assert_eq!(store.image(&app).unwrap(), None);
    check_healthy(&store);
}

#[test]
fn abbreviations_that_fit_several_images_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // Four digits have 65,536 values: of a thousand images, some two begin alike.
    let mut seen = std::collections::HashMap::new();
    for n in 0u32.. {
        let bytes = n.to_string();
        let config = Descriptor::of(MediaType::OciConfig, bytes.as_bytes());
        let digits = config.digest.hex()[..4].to_owned();
        if let Some(other) = seen.insert(digits.clone(), bytes.clone()) {
            for bytes in [other, bytes] {
                store
                    .tag(&image(&store, bytes.as_bytes(), &[]), None)
                    .unwrap();
            }
            let error = store.resolve(&digits).unwrap_err();
            assert!(
                matches!(error, StoreError::AmbiguousImage { count: 2, .. }),
                "{error}"
            );
            return;
        }
    }
}

#[test]
fn images_keep_what_they_need() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = image(&store, b"config", &[b"a", b"b"]);
    store.tag(&image, Some(&reference("app"))).unwrap();
    shared_layer(&store, b"of no image");
    drop(store);
    let store = fixture.open();
    let report = store.prune(&PrunePolicy::default(), &|_| true).unwrap();
    assert_eq!(report.removed.len(), 1, "{report:?}");
    check_healthy(&store);
    assert_eq!(store.image(&reference("app")).unwrap(), Some(image.clone()));
    store.remove_image(&image.id()).unwrap();
    drop(store);
    let store = fixture.open();
    let report = store.prune(&PrunePolicy::default(), &|_| true).unwrap();
    assert_eq!(report.removed.len(), 3, "{report:?}");
    check_healthy(&store);
}

#[test]
fn the_doctor_drops_images_that_lost_something() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = image(&store, b"config", &[b"a"]);
    store.tag(&image, Some(&reference("app"))).unwrap();
    let blob = store.blob(&image.id()).unwrap().unwrap();
    std::fs::remove_file(blob.path).unwrap();
    let health = store.doctor(&|_| true).unwrap();
    assert_eq!(health.findings.len(), 3, "{health:?}");
    assert_eq!(store.image(&reference("app")).unwrap(), None);
    check_healthy(&store);
}
