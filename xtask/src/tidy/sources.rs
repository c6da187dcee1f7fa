//! Files: each module says what it is, nothing is left unfinished, `unsafe` has one address, and
//! nothing knows the machine it was written on.

use std::path::Path;

use anyhow::Result;

use super::Finding;
use crate::workspace::{files, root, shown};

/// Endings of files that people read.
const TEXT: &[&str] = &["rs", "toml", "md", "php", "sh", "yml", "yaml", "txt"];

/// Words that promise something for later. In two halves, or this file would find itself.
const UNFINISHED: &[[&str; 2]] = &[["TO", "DO"], ["FIX", "ME"], ["XX", "X:"]];

/// Directories of one person's or one build's machine.
const MACHINE_PATHS: &[[&str; 2]] =
    &[["/ro", "ot/"], ["/wo", "rk/"], ["/ho", "me/"], ["/Us", "ers/"]];

/// Checks every file of the repository.
pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut with_unsafe = Vec::new();
    for path in files(root())? {
        let extension = path.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| TEXT.contains(&extension)) {
            continue;
        }
        // What is no UTF-8 is no text of ours: a sample for a test, perhaps.
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        findings.extend(check_words(&path, &text));
        if extension == Some("rs") {
            findings.extend(check_module_docs(&path, &text));
            if text.lines().any(uses_unsafe) {
                with_unsafe.push(shown(&path));
            }
        }
    }
    if with_unsafe.len() > 1 {
        findings.push(format!("unsafe has one address, not: {}", with_unsafe.join(", ")));
    }
    Ok(findings)
}

fn check_module_docs(path: &Path, text: &str) -> Option<Finding> {
    let documented = text.starts_with("//! ");
    (!documented).then(|| format!("{}:1: starts with `//!`: what is this file for?", shown(path)))
}

fn check_words(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = || format!("{}:{number}", shown(path));
        for word in UNFINISHED.iter().map(|halves| halves.concat()) {
            if line.contains(&word) {
                findings.push(format!("{}: {word}: finish it, or open an issue", place()));
            }
        }
        for directory in MACHINE_PATHS.iter().map(|halves| halves.concat()) {
            if holds_path(line, &directory) {
                findings.push(format!("{}: {directory} is on one machine only", place()));
            }
        }
    }
    findings
}

/// Whether a line names an absolute path that starts with `directory`.
fn holds_path(line: &str, directory: &str) -> bool {
    line.match_indices(directory).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|letter| !letter.is_alphanumeric() && !"._-/}*".contains(letter))
    })
}

/// Whether a line of code, not of comment, opens something `unsafe`.
fn uses_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let opens = ["{", "fn ", "impl ", "extern ", "trait "];
    code.match_indices("unsafe ").any(|(at, word)| {
        let fresh = code[..at].chars().next_back().is_none_or(char::is_whitespace);
        let rest = &code[at + word.len()..];
        fresh && opens.iter().any(|opening| rest.starts_with(opening))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_code_is_found_and_talk_about_it_is_not() {
        // In two halves, or this file would find itself.
        let word = concat!("un", "safe");
        for line in ["@ {", "    let a = @ { b() };", "pub @ fn c() {"] {
            let line = &line.replace('@', word);
            assert!(uses_unsafe(line), "{line}");
        }
        for line in ["// unsafe { }", "//! no unsafe fn here", "unsafe_code = 1", "let unsafety;"] {
            assert!(!uses_unsafe(line), "{line}");
        }
    }

    #[test]
    fn machine_paths_are_found_and_ordinary_ones_are_not() {
        let directory = MACHINE_PATHS[0].concat();
        assert!(holds_path(&format!("see {directory}notes"), &directory));
        assert!(holds_path(&format!("\"{directory}\""), &directory));
        assert!(!holds_path(&format!("repository{directory}notes"), &directory));
    }

    #[test]
    fn what_is_unfinished_is_found() {
        let line = format!("fn a() {{}} // {}: later", UNFINISHED[0].concat());
        assert_eq!(check_words(Path::new("a.rs"), &line).len(), 1);
        assert_eq!(check_words(Path::new("a.rs"), "fn a() {} // done"), [""; 0]);
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        assert!(check_module_docs(Path::new("a.rs"), "//! This.\n").is_none());
        assert!(check_module_docs(Path::new("a.rs"), "use std::io;\n").is_some());
    }
}
