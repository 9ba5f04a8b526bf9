//! How kinds are asked for at run time (9.1): a preset by its name, or one of the user's own, as
//! `group/version/plural[:Kind]=path`.

use std::fmt;
use std::str::FromStr;

use super::{PRESETS, Preset, Shape};

/// Stands before a path that leads to a map of annotations.
const ANNOTATIONS: &str = "annotations:";
/// Names of groups, resources and kinds are shorter, and so are paths.
const MAX_BYTES: usize = 253;
const MAX_MEMBERS: usize = 16;

/// Kinds that are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The kinds of a project that is known here.
    Preset(&'static Preset),
    /// Any other.
    Own(Own),
}

/// A kind of which the user has said what is to be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// The API group.
    pub group: String,
    /// The version of the group.
    pub version: String,
    /// The resource's plural name in URLs.
    pub plural: String,
    /// The `kind` field's value; without it the API server knows, once the resource is there.
    pub kind: Option<String>,
    /// What is at the path.
    pub shape: Shape,
    /// The members that lead to the pod template or the map of annotations.
    pub path: Vec<String>,
}

impl FromStr for Wanted {
    type Err = String;

    /// Reads what `--workload` takes.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((resource, path)) = text.split_once('=') {
            return Own::read(resource.trim(), path.trim()).map(Self::Own);
        }
        if text.contains('/') {
            return Err(format!("{text} has no path: add =spec.template, or wherever its pod template is"));
        }
        PRESETS.iter().find(|preset| preset.name == text).map(Self::Preset).ok_or_else(|| {
            let known: Vec<_> = PRESETS.iter().map(|preset| preset.name).collect();
            format!(
                "{text:?} is no preset; known are {}. A kind of your own is written group/version/plural[:Kind]=path, \
                 such as example.com/v1/servers:Server=spec.template",
                known.join(", ")
            )
        })
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => f.write_str(preset.name),
            Self::Own(own) => own.fmt(f),
        }
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.group, self.version, self.plural)?;
        if let Some(kind) = &self.kind {
            write!(f, ":{kind}")?;
        }
        let shape = match self.shape {
            Shape::PodTemplate => "",
            Shape::Annotations => ANNOTATIONS,
        };
        write!(f, "={shape}{}", self.path.join("."))
    }
}

impl Own {
    fn read(resource: &str, path: &str) -> Result<Self, String> {
        let (names, kind) = match resource.split_once(':') {
            Some((names, kind)) => (names, Some(kind)),
            None => (resource, None),
        };
        let [group, version, plural] = names.split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("{resource:?} is not of the form group/version/plural[:Kind]"));
        };
        if !is_group(group) {
            return Err(format!("{group:?} is no API group, such as example.com"));
        }
        if !is_label(version) {
            return Err(format!("{version:?} is no version of an API, such as v1"));
        }
        if plural.starts_with(|first: char| first.is_ascii_uppercase()) {
            return Err(format!(
                "{plural:?} looks like a kind: the resource's plural name is wanted there, in lower case, as in \
                 `kubectl api-resources`; the kind comes after a colon"
            ));
        }
        if !is_label(plural) {
            return Err(format!("{plural:?} is no plural name of a resource, such as servers"));
        }
        if let Some(kind) = kind.filter(|kind| !is_kind(kind)) {
            return Err(format!("{kind:?} is no kind, such as Server"));
        }
        let (shape, path) = match path.strip_prefix(ANNOTATIONS) {
            Some(path) => (Shape::Annotations, path),
            None => (Shape::PodTemplate, path),
        };
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            plural: plural.to_owned(),
            kind: kind.map(str::to_owned),
            shape,
            path: read_path(shape, path)?,
        })
    }
}

fn read_path(shape: Shape, path: &str) -> Result<Vec<String>, String> {
    let members: Vec<_> = path.split('.').collect();
    if path.len() > MAX_BYTES
        || members.len() > MAX_MEMBERS
        || !members.iter().all(|member| is_member(member))
    {
        return Err(format!(
            "{path:?} is no path: names of members with dots between them are wanted, such as spec.template"
        ));
    }
    match members[0] {
        first @ ("metadata" | "apiVersion" | "kind") => {
            return Err(format!(
                "{path:?} is not the path of a pod template: {first} is the object's own, and a change of it restarts \
                 no pods"
            ));
        }
        "status" => {
            return Err(format!("{path:?} cannot be written: status is its controller's"));
        }
        _ => {}
    }
    if shape == Shape::PodTemplate && members.last() == Some(&"annotations") {
        let template = path.trim_end_matches(".annotations").trim_end_matches(".metadata");
        return Err(format!(
            "{path:?} leads to annotations: give the path of the pod template, such as {template}; or, if there is none, \
             of the map alone, as {ANNOTATIONS}{path}"
        ));
    }
    Ok(members.into_iter().map(str::to_owned).collect())
}

/// A DNS label.
fn is_label(text: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(is_inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_group(text: &str) -> bool {
    text.len() <= MAX_BYTES && text.split('.').all(is_label)
}

fn is_kind(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// The name of a member, as CEL takes it without quotes: the chart's policies name it, too.
fn is_member(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c9_1_what_is_asked_for_is_read_and_renders_back() {
        for preset in PRESETS {
            assert_eq!(preset.name.parse(), Ok(Wanted::Preset(preset)));
            assert_eq!(Wanted::Preset(preset).to_string(), preset.name);
        }
        for text in [
            "example.com/v1/servers:Server=spec.template",
            "example.com/v1alpha1/servers=spec.pod.template",
            "batch/v1/cronjobs:CronJob=spec.jobTemplate.spec.template",
            "example.com/v1/databases:Database=annotations:spec.podAnnotations",
            "example.com/v1/databases=annotations:podAnnotations",
        ] {
            let wanted: Wanted = text.parse().unwrap();
            assert_eq!(wanted.to_string(), text);
        }
        let Ok(Wanted::Own(own)) = " example.com/v1/servers:Server = spec.template ".parse() else {
            panic!("own")
        };
        assert_eq!(own.kind.as_deref(), Some("Server"));
        assert_eq!(
            (own.shape, own.path),
            (Shape::PodTemplate, vec!["spec".to_owned(), "template".to_owned()])
        );
    }

    #[test]
    fn c9_1_what_is_wrong_is_said_with_what_would_be_right() {
        for (text, expected) in [
            ("argo", "known are argo-rollouts, knative-services, openkruise, openshift-deploymentconfigs"),
            ("", "known are"),
            ("example.com/v1/servers", "add =spec.template"),
            ("servers=spec.template", "group/version/plural[:Kind]"),
            ("v1/pods=spec", "group/version/plural[:Kind]"),
            ("a/b/c/d=spec", "group/version/plural[:Kind]"),
            ("/v1/servers=spec.template", "no API group"),
            ("Example.com/v1/servers=spec.template", "no API group"),
            ("example..com/v1/servers=spec.template", "no API group"),
            ("example.com//servers=spec.template", "no version"),
            ("example.com/v1/=spec.template", "no plural name"),
            ("example.com/v1/Server=spec.template", "the kind comes after a colon"),
            ("example.com/v1/servers:=spec.template", "no kind"),
            ("example.com/v1/servers:server=spec.template", "no kind"),
            ("example.com/v1/servers:Server:X=spec.template", "no kind"),
            ("example.com/v1/servers=", "no path"),
            ("example.com/v1/servers=spec..template", "no path"),
            ("example.com/v1/servers=.spec.template", "no path"),
            ("example.com/v1/servers=spec.template.", "no path"),
            ("example.com/v1/servers=spec.templates[0]", "no path"),
            ("example.com/v1/servers=spec/template", "no path"),
            ("example.com/v1/servers=annotations:", "no path"),
            ("example.com/v1/servers=metadata", "restarts no pods"),
            ("example.com/v1/servers=annotations:metadata.annotations", "restarts no pods"),
            ("example.com/v1/servers=status.template", "is its controller's"),
            ("example.com/v1/servers=spec.template.metadata.annotations", "such as spec.template;"),
            (
                "example.com/v1/servers=spec.podAnnotations.annotations",
                "annotations:spec.podAnnotations.annotations",
            ),
        ] {
            let refused = text.parse::<Wanted>().unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        }
    }
}
