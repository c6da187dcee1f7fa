//! cargo run --release --example http_json_api -- 127.0.0.1:8080 notes.db
//!
//! Notes in a SQLite file (in memory if none is named), to be made, read, changed and removed:
//!
//! ```text
//! curl -H 'Content-Type: application/json' -d '{"title":"milk","done":false}' localhost:8080/notes
//! curl localhost:8080/notes?done=false
//! curl -X PUT -H 'Content-Type: application/json' -d '{"title":"milk","done":true}' localhost:8080/notes/1
//! curl -X DELETE localhost:8080/notes/1
//! ```
//!
//! SQLite blocks, so its handlers run on a thread of their own beside the shards. One is enough: it
//! has one writer at a time anyway.

use std::error::Error;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard};

use eserver::http::{App, Failure, OwnedRequest, Pool, Reply, json, status};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

/// Requests that may wait for the database.
const WAITING_MAX: usize = 10_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let address = words.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let notes = Notes::open(words.next().as_deref().unwrap_or(":memory:"))?;
    let pool = Pool::new(1, WAITING_MAX)?;

    let mut app = App::new();
    let state = notes.clone();
    app.get_blocking("/notes", &pool, move |request| state.list(&request));
    let state = notes.clone();
    app.post_blocking("/notes", &pool, move |request| state.add(&request));
    let state = notes.clone();
    app.get_blocking("/notes/{id}", &pool, move |request| state.read(&request));
    let state = notes.clone();
    app.put_blocking("/notes/{id}", &pool, move |request| state.change(&request));
    app.delete_blocking("/notes/{id}", &pool, move |request| notes.remove(&request));
    app.listen(address.as_str())?;
    Ok(())
}

#[derive(Clone)]
struct Notes(Arc<Mutex<Connection>>);

/// What a client sends.
#[derive(Deserialize)]
struct Draft {
    title: String,
    #[serde(default)]
    done: bool,
}

/// What a client gets.
#[derive(Serialize)]
struct Note {
    id: i64,
    title: String,
    done: bool,
}

#[derive(Deserialize)]
struct Filter {
    done: Option<bool>,
}

impl Notes {
    fn open(path: &str) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS notes
             (id INTEGER PRIMARY KEY, title TEXT NOT NULL, done INTEGER NOT NULL)",
        )?;
        Ok(Notes(Arc::new(Mutex::new(connection))))
    }

    fn list(&self, request: &OwnedRequest) -> Result<Reply, Failure> {
        let filter: Filter = request.query()?;
        let database = self.database();
        let mut select = database.prepare_cached(
            "SELECT id, title, done FROM notes WHERE ?1 IS NULL OR done = ?1 ORDER BY id",
        )?;
        let notes: Vec<Note> = select.query_map([filter.done], note)?.collect::<Result<_, _>>()?;
        Ok(json(&notes))
    }

    fn add(&self, request: &OwnedRequest) -> Result<Reply, Failure> {
        let Draft { title, done } = request.json()?;
        let database = self.database();
        let insert = "INSERT INTO notes (title, done) VALUES (?1, ?2)";
        database.prepare_cached(insert)?.execute((&title, done))?;
        let id = database.last_insert_rowid();
        Ok(json(&Note { id, title, done })
            .with_status(201)
            .with_header("Location", format!("/notes/{id}")))
    }

    fn read(&self, request: &OwnedRequest) -> Result<Reply, Failure> {
        let id = id(request)?;
        let database = self.database();
        let select = "SELECT id, title, done FROM notes WHERE id = ?1";
        let found = database.prepare_cached(select)?.query_row([id], note).optional()?;
        Ok(found.map_or_else(|| status(404), |note| json(&note)))
    }

    fn change(&self, request: &OwnedRequest) -> Result<Reply, Failure> {
        let (id, Draft { title, done }) = (id(request)?, request.json()?);
        let database = self.database();
        let update = "UPDATE notes SET title = ?2, done = ?3 WHERE id = ?1";
        let changed = database.prepare_cached(update)?.execute((id, &title, done))?;
        Ok(if changed == 0 { status(404) } else { json(&Note { id, title, done }) })
    }

    fn remove(&self, request: &OwnedRequest) -> Result<Reply, Failure> {
        let id = id(request)?;
        let removed = self.database().execute("DELETE FROM notes WHERE id = ?1", [id])?;
        Ok(status(if removed == 0 { 404 } else { 204 }))
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        // A statement that was cut short by a panic has been rolled back.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn note(row: &Row<'_>) -> rusqlite::Result<Note> {
    Ok(Note { id: row.get(0)?, title: row.get(1)?, done: row.get(2)? })
}

/// The note that the path names; what is no number names none.
fn id(request: &OwnedRequest) -> Result<i64, Reply> {
    request.param("id").parse().map_err(|_| status(404))
}
