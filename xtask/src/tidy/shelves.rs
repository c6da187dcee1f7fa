//! Manifests: dependencies point left on the shelves, each library has its reason, lints are shared.

use anyhow::{Context, Result};
use toml::Table;

use super::Finding;
use crate::workspace::{manifest, members, read, root};

/// The tables of a manifest that make a crate depend on another.
const DEPENDENCY_TABLES: &[&str] = &["dependencies", "dev-dependencies", "build-dependencies"];

/// A crate of the workspace.
struct Member {
    name: String,
    directory: String,
    manifest: Table,
}

impl Member {
    /// The first part of its path: `engine`, `services`, `tools`, or what stands beside them.
    fn shelf(&self) -> &str {
        self.directory.split('/').next().unwrap_or_default()
    }

    /// The name of each, and the table it stands in.
    fn dependencies(&self) -> impl Iterator<Item = (&str, &str)> {
        DEPENDENCY_TABLES
            .iter()
            .filter_map(|table| Some((*table, self.manifest.get(*table)?.as_table()?)))
            .flat_map(|(table, entries)| entries.keys().map(move |name| (name.as_str(), table)))
    }
}

/// Checks all manifests of the workspace.
pub(super) fn check() -> Result<Vec<Finding>> {
    let members = members()?
        .into_iter()
        .map(|directory| {
            let manifest = manifest(&root().join(&directory))?;
            let name = manifest.get("package").and_then(|package| package.get("name"));
            let name = name.and_then(toml::Value::as_str);
            Ok(Member {
                name: name.with_context(|| format!("{directory} has no name"))?.to_owned(),
                directory,
                manifest,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut findings = check_directions(&members);
    findings.extend(members.iter().filter_map(check_lints));
    findings.extend(check_reasons(&read(&root().join("Cargo.toml"))?));
    Ok(findings)
}

/// Whether a crate on one shelf may use one on another, named in this table of its manifest.
fn may_use(shelf: &str, other: &str, table: &str) -> bool {
    match shelf {
        _ if other == "peers" && table == "dev-dependencies" => true, // real programs for tests
        "engine" | "services" => other == "engine",
        "tools" => ["engine", "services", "tools"].contains(&other),
        _ => true, // examples, fuzz, peers and xtask stand beside the shelves
    }
}

fn check_directions(members: &[Member]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for member in members {
        for (dependency, table) in member.dependencies() {
            let Some(other) = members.iter().find(|other| other.name == dependency) else {
                continue;
            };
            if !may_use(member.shelf(), other.shelf(), table) {
                findings.push(format!(
                    "{}/Cargo.toml: {} ({}) may not use {} ({}): dependencies point left, \
                     engine <- services <- tools, services never use one another, and peers are \
                     for tests",
                    member.directory,
                    member.name,
                    member.shelf(),
                    other.name,
                    other.shelf(),
                ));
            }
        }
    }
    findings
}

fn check_lints(member: &Member) -> Option<Finding> {
    let lints = member.manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml::Value::as_bool) == Some(true) {
        return None;
    }
    Some(format!(
        "{}/Cargo.toml: the lints are the workspace's: [lints] workspace = true",
        member.directory
    ))
}

/// Every library in `[workspace.dependencies]` has a comment that says what it is here for.
fn check_reasons(manifest: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut inside = false;
    for (number, line) in (1..).zip(manifest.lines()) {
        if line.starts_with('[') {
            inside = line.trim() == "[workspace.dependencies]";
            continue;
        }
        let ours = line.contains("path = ");
        if !inside || ours || line.starts_with('#') || !line.contains('=') {
            continue;
        }
        if !line.contains(" # ") {
            let name = line.split('=').next().unwrap_or_default().trim();
            findings.push(format!("Cargo.toml:{number}: {name}: say in a comment what it is for"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, directory: &str, manifest: &str) -> Member {
        Member {
            name: name.to_owned(),
            directory: directory.to_owned(),
            manifest: manifest.parse().unwrap(),
        }
    }

    #[track_caller]
    fn check_manifest(directory: &str, manifest: &str, expected: usize) {
        let members = [
            member("core", "engine/core", ""),
            member("queue", "services/queue", ""),
            member("load", "tools/load", ""),
            member("peers", "peers", ""),
            member("this", directory, manifest),
        ];
        let findings = check_directions(&members);
        assert_eq!(findings.len(), expected, "{findings:?}");
    }

    #[test]
    fn dependencies_point_left() {
        check_manifest("engine/this", "[dependencies]\ncore.workspace = true", 0);
        check_manifest("engine/this", "[dependencies]\nqueue.workspace = true", 1);
        check_manifest("engine/this", "[dev-dependencies]\nload = { path = \"x\" }", 1);
        check_manifest("services/this", "[dependencies]\ncore = \"1\"\nserde = \"1\"", 0);
        check_manifest("services/this", "[dependencies]\nqueue = \"1\"", 1);
        check_manifest("services/this", "[build-dependencies]\nload = \"1\"", 1);
        check_manifest(
            "tools/this",
            "[dependencies]\ncore = \"1\"\nqueue = \"1\"\nload = \"1\"",
            0,
        );
        check_manifest("xtask", "[dependencies]\nload = \"1\"\npeers = \"1\"", 0);
    }

    #[test]
    fn peers_are_for_tests() {
        for shelf in ["engine", "services", "tools"] {
            let this = format!("{shelf}/this");
            check_manifest(&this, "[dev-dependencies]\npeers = \"1\"", 0);
            check_manifest(&this, "[dependencies]\npeers = \"1\"", 1);
            check_manifest(&this, "[build-dependencies]\npeers = \"1\"", 1);
        }
    }

    #[test]
    fn lints_are_shared() {
        assert!(check_lints(&member("a", "engine/a", "[lints]\nworkspace = true")).is_none());
        assert!(check_lints(&member("a", "engine/a", "[lints]\nworkspace = false")).is_some());
        assert!(check_lints(&member("a", "engine/a", "")).is_some());
    }

    #[test]
    fn each_library_has_its_reason() {
        let manifest = "[workspace.dependencies]\n\
                        ours = { path = \"engine/ours\" }\n\
                        # Engine.\n\
                        good = \"1\" # for this\n\
                        bad = \"1\"\n\
                        [workspace.lints.rust]\n\
                        other = \"warn\"\n";
        assert_eq!(check_reasons(manifest), ["Cargo.toml:5: bad: say in a comment what it is for"]);
    }
}
