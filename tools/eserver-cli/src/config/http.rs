//! [`RespondConfig`] and [`FilesConfig`]: what `[http]` answers with, which must not be twice.

use std::path::PathBuf;

use super::problem::Problem;
use super::settings::{Setting, Settings, Table};

/// Statuses whose answers have no body.
const BODILESS: [u16; 3] = [204, 205, 304];

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RespondConfig {
    /// Begins with a slash; not encoded.
    pub(crate) path: String,
    /// 200 to 599.
    pub(crate) status: u16,
    /// Empty if the status has none.
    pub(crate) body: String,
    /// Empty if the answer has none.
    pub(crate) content_type: String,
}

/// A directory whose files are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilesConfig {
    /// Begins with a slash and does not end with one; empty for all paths.
    pub(crate) prefix: String,
    /// Was a directory when it was looked at.
    pub(crate) root: PathBuf,
}

/// All that are in order; what is wrong with the others is added to `problems`.
///
/// `whole` says that everything was understood so far, so that what is missing really is.
pub(super) fn read(
    settings: &Settings,
    whole: bool,
    problems: &mut Vec<Problem>,
) -> (Vec<RespondConfig>, Vec<FilesConfig>) {
    let (responds, files) = (settings.tables("http.respond"), settings.tables("http.files"));
    let mut answered = Vec::new();
    let files = files.iter().filter_map(|table| {
        let setting = table.get("prefix").expect("KEYS gives it a default");
        let prefix = setting.text().trim_end_matches('/');
        check_alone(&mut answered, prefix, table, Some(setting), problems);
        let root = required(table, "root", whole, problems).and_then(|setting| {
            let root = PathBuf::from(setting.text());
            check_directory(&root, table, setting, problems).then_some(root)
        });
        Some(FilesConfig { prefix: prefix.to_owned(), root: root? })
    });
    let files = files.collect();
    let responds = responds.iter().filter_map(|table| {
        let setting = required(table, "path", whole, problems);
        let path = setting.map(Setting::text);
        if let Some(path) = path {
            check_alone(&mut answered, path, table, setting, problems);
        }
        let status = u16::try_from(table.integer("status")).expect("KEYS bounds it");
        let text = |name: &str| table.get(name).expect("KEYS gives it a default").text().to_owned();
        let (body, content_type) = (text("body"), text("content_type"));
        check_body(status, &body, table, problems);
        Some(RespondConfig { path: path?.to_owned(), status, body, content_type })
    });
    (responds.collect(), files)
}

/// The setting, which must be there.
fn required<'t>(
    table: &'t Table,
    name: &str,
    whole: bool,
    problems: &mut Vec<Problem>,
) -> Option<&'t Setting> {
    let setting = table.get(name);
    if setting.is_none() && whole && table.whole {
        let (title, help) = match name {
            "root" => {
                ("these files lie nowhere", "write root = \"public\", the name of a directory")
            }
            _ => ("this answer is for no request", "write path = \"/health\", what it answers"),
        };
        let label = format!("`{name}` is missing");
        problems.push(Problem::at(&table.spot, title, label).help(help));
    }
    setting
}

/// Two answers to the same request would leave one of them without effect. A fixed answer may well
/// stand below a prefix of files.
fn check_alone<'t>(
    answered: &mut Vec<(&'t str, &'t Table)>,
    path: &'t str,
    table: &'t Table,
    setting: Option<&Setting>,
    problems: &mut Vec<Problem>,
) {
    if let Some((_, first)) = answered.iter().find(|(other, _)| *other == path) {
        let title = format!("{:?} is answered twice", if path.is_empty() { "/" } else { path });
        let label = format!("the section of {} answers it already", first.origin);
        problems.push(Problem::at(&table.spot_of(setting), title, label));
    }
    answered.push((path, table));
}

fn check_directory(
    root: &PathBuf,
    table: &Table,
    setting: &Setting,
    problems: &mut Vec<Problem>,
) -> bool {
    let label = match std::fs::metadata(root) {
        Ok(found) if found.is_dir() => return true,
        Ok(_) => "it is a file".to_owned(),
        Err(error) => error.to_string(),
    };
    let title = format!("`http.files.root` is no directory: {}", root.display());
    problems.push(Problem::at(&table.spot_of(Some(setting)), title, label));
    false
}

fn check_body(status: u16, body: &str, table: &Table, problems: &mut Vec<Problem>) {
    if BODILESS.contains(&status) && !body.is_empty() {
        let title = format!("an answer with the status {status} has no body");
        let spot = table.spot_of(table.get("body"));
        problems.push(Problem::at(&spot, title, "leave it out, or choose another status"));
    }
}
