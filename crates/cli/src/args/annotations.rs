//! Annotations as buildx spells them: `--annotation`, and the options of outputs.

use anyhow::{Context as _, Result, bail};
use engine::request::{Annotation, AnnotationLevel};
use oci::Platform;

const LEVELS: &[(&str, AnnotationLevel)] = &[
    ("manifest", AnnotationLevel::Manifest),
    ("index", AnnotationLevel::Index),
    ("manifest-descriptor", AnnotationLevel::ManifestDescriptor),
    ("index-descriptor", AnnotationLevel::IndexDescriptor),
];

/// Parses `[LEVEL[PLATFORM],…:]KEY=VALUE`: one annotation for each level.
pub(super) fn flag(text: &str) -> Result<Vec<Annotation>> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    // A key may have a colon of its own: only names of levels come before one.
    let levels = name.split_once(':').and_then(|(levels, key)| {
        let levels = levels.split(',').map(level).collect::<Option<Vec<_>>>();
        levels.map(|levels| (levels, key))
    });
    let (levels, key) = levels.unwrap_or((vec![(AnnotationLevel::Manifest, None)], name));
    let levels = levels.into_iter();
    levels
        .map(|(level, platform)| annotation(level, platform, key, value))
        .collect()
}

/// Parses the option `annotation[-LEVEL][PLATFORM].KEY=VALUE`; `None` if it is another one.
pub(super) fn attribute(name: &str, value: &str) -> Result<Option<Annotation>> {
    let Some(rest) = name.strip_prefix("annotation") else {
        return Ok(None);
    };
    // The key is behind the first point outside the brackets of a platform.
    let head = rest.find(']').unwrap_or(0);
    let Some(point) = rest[head..].find('.') else {
        return Ok(None);
    };
    let (place, key) = (&rest[..head + point], &rest[head + point + 1..]);
    let place = match place.strip_prefix('-') {
        Some(place) => place.to_string(),
        None => format!("manifest{place}"),
    };
    match level(&place) {
        Some((level, platform)) => annotation(level, platform, key, value).map(Some),
        None => Ok(None),
    }
}

/// A level, and the text of its platform.
fn level(text: &str) -> Option<(AnnotationLevel, Option<&str>)> {
    let (name, platform) = match text.split_once('[') {
        Some((name, rest)) => (name, Some(rest.strip_suffix(']')?)),
        None => (text, None),
    };
    let (_, level) = LEVELS.iter().find(|(known, _)| *known == name)?;
    Some((*level, platform))
}

fn annotation(
    level: AnnotationLevel,
    platform: Option<&str>,
    key: &str,
    value: &str,
) -> Result<Annotation> {
    use AnnotationLevel::{Index, IndexDescriptor};
    if key.is_empty() {
        bail!("the name is empty");
    }
    if platform.is_some() && matches!(level, Index | IndexDescriptor) {
        bail!("an index is for all platforms: it has no annotations for one");
    }
    let parse = |text: &str| {
        let platform = text.parse::<Platform>();
        platform.with_context(|| format!("`{text}` is no platform"))
    };
    Ok(Annotation {
        level,
        platform: platform.map(parse).transpose()?,
        key: key.to_string(),
        value: value.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(annotation: &Annotation) -> String {
        let Annotation {
            level,
            platform,
            key,
            value,
        } = annotation;
        let platform = platform.as_ref().map_or("all".into(), Platform::to_string);
        format!("{level:?} {platform} {key}={value}")
    }

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let found = flag(text).expect("annotations");
        assert_eq!(found.iter().map(shown).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn levels_and_platforms() {
        check("a=b", &["Manifest all a=b"]);
        check("a=b=c", &["Manifest all a=b=c"]);
        check("a:b=c", &["Manifest all a:b=c"]);
        check("index:a=b", &["Index all a=b"]);
        check(
            "index,manifest-descriptor:a=b",
            &["Index all a=b", "ManifestDescriptor all a=b"],
        );
        check("manifest[linux/arm64]:a=b", &["Manifest linux/arm64 a=b"]);
        assert!(flag("index[linux/arm64]:a=b").is_err());
        assert!(flag("index:=b").is_err());
    }

    #[test]
    fn options_of_outputs() {
        #[track_caller]
        fn check(name: &str, expected: Option<&str>) {
            let found = attribute(name, "v").expect("parsed");
            assert_eq!(found.as_ref().map(shown).as_deref(), expected);
        }
        check("annotation.a.b", Some("Manifest all a.b=v"));
        check("annotation-index.a", Some("Index all a=v"));
        check(
            "annotation-manifest-descriptor[linux/arm64].a",
            Some("ManifestDescriptor linux/arm64 a=v"),
        );
        check(
            "annotation[linux/amd64].a",
            Some("Manifest linux/amd64 a=v"),
        );
        check("annotation-all.a", None);
        check("annotations", None);
        check("dest", None);
    }
}
