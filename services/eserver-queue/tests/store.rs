//! A data directory: one server at a time, no newer format, and a sentence for what is wrong.

use std::fs;

use eserver_queue::{Millis, QueueName, QueueSettings, Store, StoreError};

const NOW: Millis = Millis::new(1_700_000_000_000);

#[test]
fn a_second_server_is_told_whose_directory_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made").join("on demand");
    let first = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    let process = std::process::id();
    assert!(matches!(error, StoreError::InUse { process: Some(found), .. } if found == process));
    let sentence = error.to_string();
    assert!(sentence.contains(&format!("process {process}")), "{sentence}");
    assert!(sentence.contains(path.to_str().unwrap()), "{sentence}");
    drop(first);
    Store::open(&path).unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    fs::write(directory.path().join("format"), "7\n").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::NewerFormat { version: 7, .. }));
    assert!(error.to_string().contains("newer server"), "{error}");
    fs::write(directory.path().join("format"), "something else").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(error, StoreError::NoFormat { .. }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path).unwrap_err();
        assert!(matches!(error, StoreError::Disk { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    }
    // The lock itself cannot be made.
    let taken = directory.path().join("taken");
    fs::create_dir_all(taken.join("lock")).unwrap();
    let error = Store::open(&taken).unwrap_err();
    assert!(error.to_string().contains("lock"), "{error}");
}

#[test]
fn queues_live_side_by_side() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let settings = QueueSettings::default();
    for name in ["sql", "img", "a.b-c_d"] {
        let name = QueueName::new(name).unwrap();
        let (mut queue, recovery) = store.open_queue(&name, &settings, NOW).unwrap();
        assert!(recovery.is_new);
        queue.put(name.as_str().as_bytes(), None, 0, NOW).unwrap();
        queue.close().unwrap();
    }
    let names = store.queues().unwrap();
    assert_eq!(names.iter().map(QueueName::as_str).collect::<Vec<_>>(), ["a.b-c_d", "img", "sql"]);
    for name in names {
        let (mut queue, recovery) = store.open_queue(&name, &settings, NOW).unwrap();
        assert!(recovery.is_clean && recovery.messages == 1);
        let mut payload = Vec::new();
        queue.pop(NOW, &mut payload).unwrap().unwrap();
        assert_eq!(payload, name.as_str().as_bytes());
    }
}
