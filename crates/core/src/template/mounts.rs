//! What containers see of volumes: the whole, or what is at some paths in it (7.2).

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::MAX_USES;
use crate::fold::{FoldItem, Folded};

/// What Kubernetes accepts as a volume's name at most, a label of DNS.
const MAX_NAME_BYTES: usize = 63;
/// The longest path that Linux takes.
const MAX_PATH_BYTES: usize = 4_096;

/// The volumes that containers mount.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    volumes: BTreeMap<Box<str>, Mounted>,
    count: usize,
    /// There are more than are kept: then every volume counts as mounted.
    is_truncated: bool,
}

/// How one volume is mounted.
#[derive(Debug, Default)]
pub(super) struct Mounted {
    is_whole: bool,
    /// The paths of which only what is at them, or below, is seen.
    paths: BTreeSet<Box<str>>,
}

/// The parts of a `v1` `VolumeMount` that say what of a volume is seen.
#[derive(Deserialize)]
pub(super) struct VolumeMount {
    name: Option<Box<str>>,
    #[serde(rename = "subPath")]
    sub_path: Option<Box<str>>,
    #[serde(rename = "subPathExpr")]
    sub_path_expr: Option<Box<str>>,
}

impl FoldItem for Mounts {
    type Item = VolumeMount;

    fn item(&mut self, VolumeMount { name, sub_path, sub_path_expr }: VolumeMount) {
        let Some(name) = name.filter(|name| name.len() <= MAX_NAME_BYTES) else { return };
        if self.count >= MAX_USES {
            self.is_truncated = true;
            return;
        }
        self.count += 1;
        let mounted = self.volumes.entry(name).or_default();
        // An expression is known once the pod runs.
        let is_whole = sub_path_expr.is_some_and(|expr| !expr.is_empty());
        match sub_path.and_then(|path| normal(&path)).filter(|_| !is_whole) {
            Some(path) => drop(mounted.paths.insert(path)),
            None => mounted.is_whole = true,
        }
    }
}

impl Mounts {
    pub(super) fn add_all(&mut self, other: Self) {
        self.is_truncated |= other.is_truncated || self.count + other.count > MAX_USES;
        self.count += other.count;
        if self.is_truncated {
            return self.volumes.clear();
        }
        for (name, Mounted { is_whole, paths }) in other.volumes {
            let mounted = self.volumes.entry(name).or_default();
            mounted.is_whole |= is_whole;
            mounted.paths.extend(paths);
        }
    }

    /// What is seen of that volume; `None` if no container mounts it.
    pub(super) fn of(&self, volume: &str) -> Option<Seen<'_>> {
        if self.is_truncated {
            return Some(Seen::Whole);
        }
        let mounted = self.volumes.get(volume)?;
        Some(if mounted.is_whole { Seen::WholeAnd(mounted) } else { Seen::Paths(mounted) })
    }
}

/// What containers see of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'m> {
    /// All of it.
    Whole,
    /// All of it and, by other mounts, some paths.
    WholeAnd(&'m Mounted),
    /// What is at some paths, or below.
    Paths(&'m Mounted),
}

impl Seen<'_> {
    /// Whether all of it is seen.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Whole | Self::WholeAnd(_))
    }

    /// The paths that are mounted by themselves.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let mounted = match self {
            Self::Whole => None,
            Self::WholeAnd(mounted) | Self::Paths(mounted) => Some(*mounted),
        };
        mounted.into_iter().flat_map(|mounted| mounted.paths.iter().map(|path| &**path))
    }

    /// Whether a file at that path of the volume, in its normal form, is seen.
    pub(super) fn shows(&self, file: &str) -> bool {
        let is_below =
            |path: &str| file.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.is_whole() || self.paths().any(is_below)
    }
}

/// A relative path without empty and `.` segments; `None` for the volume itself, and for what Kubernetes refuses.
pub(super) fn normal(path: &str) -> Option<Box<str>> {
    if path.len() > MAX_PATH_BYTES {
        return None;
    }
    let mut segments: Vec<_> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    // Where the kubelet keeps the files, to which the others are links.
    if segments.first() == Some(&"..data") {
        segments.remove(0);
    }
    if segments.is_empty() || segments.contains(&"..") {
        return None;
    }
    Some(segments.join("/").into())
}

/// The mounts of a list of containers.
pub(super) type VolumeMounts = Folded<Mounts>;
