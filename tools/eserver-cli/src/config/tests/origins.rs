//! `comet.allow_origins`: a list of what browsers send, or of `*` alone.

use super::*;

fn origins(case: &Case<'_>) -> Vec<String> {
    match case.good().config.comet.channels.origins {
        Origins::Any => vec!["*".to_owned()],
        Origins::Of(origins) => origins.iter().map(|one| one.as_str().to_owned()).collect(),
    }
}

#[test]
fn origins_come_from_all_sources() {
    assert_eq!(origins(&file("")), ["*"]);
    assert_eq!(origins(&file("[comet]\nallow_origins = [\"*\"]\n")), ["*"]);
    let none = file("[comet]\nallow_origins = []\n");
    assert!(origins(&none).is_empty());
    assert!(none.good().notes.to_string().contains("no web page may do anything"));
    let text = "[comet]\nallow_origins = [\"https://example.org\", \"http://[::1]:5173\"]\n";
    let both = ["https://example.org", "http://[::1]:5173"];
    assert_eq!(origins(&file(text)), both);
    let environment = [("ESERVER__COMET__ALLOW_ORIGINS", "https://example.org,http://[::1]:5173")];
    assert_eq!(origins(&Case { environment: &environment, ..Case::default() }), both);
    let set = [r#"comet.allow_origins=["https://a"]"#];
    assert_eq!(origins(&Case { file: text, set: &set, ..Case::default() }), ["https://a"]);
    let set = ["comet.allow_origins=*"];
    assert_eq!(origins(&Case { file: text, set: &set, ..Case::default() }), ["*"]);
}

#[test]
fn what_is_printed_of_origins_can_be_read_again() {
    for list in ["[\"*\"]", "[]", "[\"https://example.org\", \"http://localhost:5173\"]"] {
        let first = file(&format!("[comet]\nallow_origins = {list}\n")).good();
        let printed = first.settings.to_toml(true);
        assert!(printed.contains(&format!("allow_origins = {list}")), "{printed}");
        let again = file(&printed).good();
        assert_eq!(again.settings.changed_since(&first.settings).count(), 0, "{printed}");
    }
}

#[test]
fn what_no_browser_sends_is_shown_with_its_line_and_a_reason() {
    check(
        "[comet]\nallow_origins = [\"https://example.org\", \"https://Example.com/\"]\n",
        r#"
error: `comet.allow_origins` takes origins, as browsers send them
 --> eserver.toml:2:41
  |
2 | allow_origins = ["https://example.org", "https://Example.com/"]
  |                                         ^^^^^^^^^^^^^^^^^^^^^^ it ends with the host or the port: no path, no slash
  |
  = help: write "https://example.com"
"#,
    );
    for (item, reason, help) in [
        ("https://example.org/", "no path", "write \"https://example.org\""),
        ("example.org", "begin with a scheme", "write \"https://example.org\""),
        ("https://Example.org", "small letters", "write \"https://example.org\""),
        ("https://example.org:443", "leave out the port", "write \"https://example.org\""),
        ("wss://example.org:1", "http or https", "write \"https://example.org:1\""),
        ("WSS://Example.org:443/x?y", "no path", "write \"https://example.org\""),
        ("https://*.example.org", "compared as they are", "scheme://host"),
        ("null", "any page can", "scheme://host"),
        ("https://bücher.example", "the name of a host", "scheme://host"),
        ("https://a:99999", "from 1 to 65535", "scheme://host"),
        ("", "begin with a scheme", "scheme://host"),
    ] {
        let text = format!("[comet]\nallow_origins = [\"{item}\"]\n");
        let problems = file(&text).load().map(|loaded| loaded.config).unwrap_err();
        assert!(problems.contains("eserver.toml:2:18"), "{problems}");
        assert!(problems.contains(reason) && problems.contains(help), "{item}: {problems}");
    }
    for (list, what) in [
        ("[\"*\", \"https://a\"]", "only `*` by itself stands for all"),
        ("[\"https://a\", \"https://a\"]", "already in the list"),
        ("\"https://a\"", "a list stands in brackets: [\"https://a\"]"),
        ("[1]", "cannot be a number"),
        ("true", "cannot be true or false"),
    ] {
        let text = format!("[comet]\nallow_origins = {list}\n");
        let problems = file(&text).load().map(|loaded| loaded.config).unwrap_err();
        assert!(problems.contains(what), "{problems}");
    }
}
