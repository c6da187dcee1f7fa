//! A file for `/etc/sysctl.d` with what has to change.

use std::fmt::Write;

use crate::finding::Finding;
use crate::report::wrap;

/// Why writing into a text is certain.
const STRING: &str = "a String takes everything";

/// The file: each setting once, with its reason above it; `None` if nothing has to change.
///
/// What is slower or does harm is in it as well; what cannot be told is not. If two findings ask for
/// the same setting, the first one counts.
#[must_use]
pub fn sysctl_file(findings: &[Finding]) -> Option<String> {
    let mut text =
        String::from("# Made by `eserver doctor`. Read by `sysctl --system`, and at boot.\n");
    let mut written: Vec<&str> = Vec::new();
    for finding in findings {
        let fresh: Vec<_> =
            finding.settings.iter().filter(|(name, _)| !written.contains(name)).collect();
        if fresh.is_empty() {
            continue;
        }
        text.push('\n');
        for line in wrap(&format!("{}: {}", finding.name, finding.sentence), 96) {
            writeln!(text, "# {line}").expect(STRING);
        }
        for (name, value) in fresh {
            writeln!(text, "{name} = {value}").expect(STRING);
            written.push(name);
        }
    }
    (!written.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Verdict;

    #[test]
    fn each_setting_is_there_once_with_its_reason() {
        let finding = |sentence, value: &str| {
            Finding::new("files", Verdict::NotEnough, sentence).set("fs.file-max", value)
        };
        let text = sysctl_file(&[finding("first", "2"), finding("second", "1")]).unwrap();
        assert!(text.ends_with("\n\n# files: first\nfs.file-max = 2\n"), "{text}");
        assert_eq!(sysctl_file(&[Finding::enough("files", "many")]), None);
    }
}
