//! Commands in the documents: what a reader is told to type must exist.

use std::process::Stdio;

use anyhow::Result;
use clap::CommandFactory;

use super::Finding;
use crate::workspace::{cargo, manifest, read, root};

/// The documents whose commands people type.
const DOCUMENTS: &[&str] = &["README.md", "CONTRIBUTING.md"];

/// Commands of cargo itself that the documents may use.
const CARGO_COMMANDS: &[&str] = &["build", "test", "doc", "fmt", "clippy", "install"];

/// A line of a code block that starts with `cargo` or `eserver`.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    line: usize,
    words: Vec<String>,
}

/// Checks each command of each document; builds the binary, which knows its own.
pub(super) fn check() -> Result<Vec<Finding>> {
    let status = cargo(["build", "--quiet", "--package", "eserver-cli"]).status()?;
    if !status.success() {
        let finding = "the binary does not build, so nobody knows its commands";
        return Ok(vec![finding.to_owned()]);
    }
    let examples = examples()?;
    let mut findings = Vec::new();
    for document in DOCUMENTS {
        for typed in commands(&read(&root().join(document))?) {
            if let Some(wrong) = problem(&typed.words, &examples) {
                let words = typed.words.join(" ");
                findings.push(format!("{document}:{}: `{words}`: {wrong}", typed.line));
            }
        }
    }
    Ok(findings)
}

/// The commands in the code blocks of a document for a shell; a prompt before them is left out.
fn commands(document: &str) -> Vec<Typed> {
    let mut found = Vec::new();
    let mut shell = None;
    for (line, text) in (1..).zip(document.lines()) {
        let text = text.trim_start();
        if let Some(language) = text.strip_prefix("```") {
            let is_shell = ["", "sh", "bash", "console", "text"].contains(&language.trim());
            shell = match shell {
                Some(_) => None,
                None => Some(is_shell),
            };
            continue;
        }
        let command = text.trim_start_matches("$ ").split(" #").next();
        let words: Vec<_> = command.unwrap_or_default().split_whitespace().collect();
        let ours = matches!(words.first(), Some(&("cargo" | "eserver")));
        if shell == Some(true) && ours {
            let words = words.into_iter().map(str::to_owned).collect();
            found.push(Typed { line, words });
        }
    }
    found
}

/// What is wrong with a command, if anything.
fn problem(words: &[String], examples: &[String]) -> Option<String> {
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["eserver", rest @ ..] => problem_of_eserver(rest),
        ["cargo", "xtask", rest @ ..] => problem_of_xtask(rest),
        ["cargo", "run", rest @ ..] => problem_of_run(rest, examples),
        ["cargo", "install", "--path", directory, ..] => {
            let there = root().join(directory).join("Cargo.toml").exists();
            (!there).then(|| format!("there is no crate in {directory}"))
        }
        ["cargo", "install", "cargo-fuzz"] => None,
        ["cargo", command, ..] if CARGO_COMMANDS.contains(command) => None,
        _ => Some("not a command that is known here".to_owned()),
    }
}

/// The chores are our own: their names are at hand.
fn problem_of_xtask(words: &[&str]) -> Option<String> {
    let mut command = crate::Arguments::command();
    for word in subcommands(words) {
        if !command.has_subcommands() {
            break; // an argument of the chore
        }
        match command.find_subcommand(word) {
            Some(next) => command = next.clone(),
            None => return Some(format!("there is no chore {word:?}")),
        }
    }
    None
}

/// `cargo run --example NAME …` or `cargo run --release -- COMMAND …` of the binary.
fn problem_of_run(words: &[&str], examples: &[String]) -> Option<String> {
    if let Some(at) = words.iter().position(|&word| word == "--example") {
        let name = words.get(at + 1).copied().unwrap_or_default();
        let there = examples.iter().any(|example| example == name);
        return (!there).then(|| format!("there is no example {name:?}"));
    }
    let at = words.iter().position(|&word| word == "--");
    problem_of_eserver(at.map_or(&[], |at| &words[at + 1..]))
}

/// Asks the binary for its help: it knows which commands it has.
fn problem_of_eserver(words: &[&str]) -> Option<String> {
    let mut command = cargo(["run", "--quiet", "--package", "eserver-cli", "--"]);
    command.args(subcommands(words)).arg("--help").stdout(Stdio::null());
    match command.status() {
        Ok(status) if status.success() => None,
        Ok(_) => Some("the binary knows no such command".to_owned()),
        Err(error) => Some(format!("cannot ask the binary: {error}")),
    }
}

/// The words in front that may be names of commands: neither options, nor values, nor text.
fn subcommands<'a>(words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    let is_name = |word: &&str| {
        let mut letters = word.chars();
        letters.next().is_some_and(|first| first.is_ascii_lowercase())
            && letters.all(|letter| letter.is_ascii_lowercase() || letter == '-')
    };
    words.iter().copied().take_while(is_name)
}

/// The names of the examples.
fn examples() -> Result<Vec<String>> {
    let manifest = manifest(&root().join("examples"))?;
    let examples = manifest.get("example").and_then(toml::Value::as_array);
    let names = examples.into_iter().flatten().filter_map(|example| example.get("name")?.as_str());
    Ok(names.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_blocks_for_a_shell() {
        let document = "cargo text is no command\n\
                        ```sh\n\
                        cargo xtask test   # minutes\n\
                        $ eserver queue pop\n\
                        echo cargo\n\
                        ```\n\
                        ```toml\n\
                        cargo = 1\n\
                        ```\n\
                        ```\n\
                        cargo run --release -- serve\n\
                        ```\n";
        let found: Vec<_> = commands(document)
            .into_iter()
            .map(|typed| (typed.line, typed.words.join(" ")))
            .collect();
        let expected = [
            (3, "cargo xtask test"),
            (4, "eserver queue pop"),
            (11, "cargo run --release -- serve"),
        ];
        assert_eq!(found, expected.map(|(line, words)| (line, words.to_owned())));
    }

    #[track_caller]
    fn check_problem(command: &str, wrong: bool) {
        let words: Vec<_> = command.split(' ').map(str::to_owned).collect();
        let examples = ["framed_queue".to_owned()];
        assert_eq!(problem(&words, &examples).is_some(), wrong, "{command}");
    }

    #[test]
    fn chores_and_examples_must_exist() {
        check_problem("cargo xtask test --only unit", false);
        check_problem("cargo xtask bench queue --quick", false);
        check_problem("cargo xtask soak power", false);
        check_problem("cargo xtask tets", true);
        check_problem("cargo run --release --example framed_queue 127.0.0.1:9000", false);
        check_problem("cargo run --release --example nosuch", true);
        check_problem("cargo install --path tools/eserver-cli", false);
        check_problem("cargo install --path tools/nosuch", true);
        check_problem("cargo frobnicate", true);
    }

    #[test]
    fn values_are_no_subcommands() {
        let words = ["queue", "push", "\"insert", "into\"", "--addr", "x"];
        assert_eq!(subcommands(&words).collect::<Vec<_>>(), ["queue", "push"]);
    }
}
