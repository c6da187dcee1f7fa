//! [`Files`]: a directory as part of an [`App`](crate::http::App).
//!
//! A small file that was asked for within the last second is answered from memory, on the shard.
//! Anything else is opened, looked at and read by a thread beside the shards, a large file piece by
//! piece, each once the client has taken the one before.

mod cache;
mod coding;
mod content_type;
mod directory;
mod range;
mod version;

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::http::app::Request;
use crate::http::files::cache::Cache;
use crate::http::files::coding::{Accepted, Coding};
use crate::http::files::content_type::content_type;
use crate::http::files::directory::{Directory, is_absent};
use crate::http::files::range::{Wanted, wanted};
use crate::http::files::version::Version;
use crate::http::reply::{Pieces, Reply, redirect, status};

/// Files up to this length are kept in memory, in bytes; longer ones are read each time.
const CACHED_FILE_BYTES_MAX: u64 = 256 * 1024;

/// A directory whose files are served.
///
/// What is asked for must lie in it: names such as `..` are refused, and so are links that lead out
/// of it, and hidden files, except for those in `.well-known`. For a path that ends in a slash,
/// `index.html` is served. Where `name.br` or `name.gz` lies beside a file, it is served in place
/// of `name` to who takes it.
///
/// Ranges (one at a time) and all conditions are understood: If-Match, If-Unmodified-Since,
/// If-None-Match, If-Modified-Since and If-Range.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
    cache_control: Option<String>,
    cache_bytes_max: u64,
}

impl Files {
    /// The files below `root`.
    #[must_use]
    pub fn of(root: impl Into<PathBuf>) -> Self {
        Files { root: root.into(), cache_control: None, cache_bytes_max: 32 * 1024 * 1024 }
    }

    /// The field Cache-Control of each file, such as `max-age=3600`. None by default.
    #[must_use]
    pub fn cache_control(mut self, value: impl Into<String>) -> Self {
        self.cache_control = Some(value.into());
        self
    }

    /// Bytes of small files that are kept in memory, for all shards together; those that have not
    /// been asked for longest give way. 32 MiB by default.
    #[must_use]
    pub fn cache_bytes_max(mut self, bytes: u64) -> Self {
        self.cache_bytes_max = bytes;
        self
    }
}

impl<P: Into<PathBuf>> From<P> for Files {
    fn from(root: P) -> Self {
        Files::of(root)
    }
}

/// [`Files`] at work.
pub(crate) struct Served {
    directory: Directory,
    cache_control: Option<String>,
    cache: Mutex<Cache<Stored>>,
}

/// A file as it was found, in every form that lies there.
struct Stored {
    content_type: &'static str,
    /// The smallest one first, [`Coding::Identity`] last.
    forms: Vec<Form>,
}

struct Form {
    version: Version,
    content: Content,
}

#[derive(Clone)]
enum Content {
    InMemory(Arc<[u8]>),
    OnDisk(Arc<File>),
}

/// What a path leads to.
enum Place {
    File(Arc<Stored>),
    /// A directory that was named like a file.
    Directory,
}

impl Served {
    pub(crate) fn new(files: Files) -> Self {
        Served {
            directory: Directory::new(files.root),
            cache_control: files.cache_control,
            cache: Mutex::new(Cache::new(files.cache_bytes_max)),
        }
    }

    /// The file that `path` names, which is decoded and comes from the client.
    pub(crate) fn reply(self: &Arc<Self>, path: &str, request: &Request<'_>) -> Reply {
        if !directory::is_inside(path) {
            return Reply::not_found();
        }
        if let Some(stored) = self.cache().get(path, Instant::now()) {
            return stored.reply(request, self.cache_control.as_deref());
        }
        let (served, path, request) = (Arc::clone(self), path.to_owned(), request.to_owned());
        Reply::work(move || match served.find(&path) {
            Ok(Place::File(stored)) => stored.reply(&request, served.cache_control.as_deref()),
            Ok(Place::Directory) => to_directory(&request),
            Err(error) => not_served(&served.directory.root().join(path), &error),
        })
    }

    /// What `path` leads to now. The cache is told, whatever that is.
    fn find(&self, path: &str) -> io::Result<Place> {
        let place = self.look(path);
        let bytes = match &place {
            Ok(Place::File(stored)) => stored.bytes_in_memory().map(|bytes| (stored, bytes)),
            Ok(Place::Directory) | Err(_) => None,
        };
        match bytes {
            Some((stored, bytes)) => {
                let stored = Arc::clone(stored);
                self.cache().insert(path.to_owned(), stored, bytes, Instant::now());
            }
            None => self.cache().remove(path),
        }
        place
    }

    fn look(&self, path: &str) -> io::Result<Place> {
        let known = self.cache().peek(path);
        let mut path = path.to_owned();
        if path.is_empty() || path.ends_with('/') {
            path.push_str("index.html");
        }
        let root = self.directory.open()?;
        let mut forms = Vec::new();
        for coding in Coding::COMPRESSED {
            let file = self.directory.open_file(&root, &format!("{path}{}", coding.suffix()));
            if let Ok(file) = file
                && file.metadata()?.is_file()
            {
                forms.push(Form::read(coding, file, known.as_deref())?);
            }
        }
        let file = self.directory.open_file(&root, &path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Place::Directory);
        } else if !metadata.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        forms.push(Form::read(Coding::Identity, file, known.as_deref())?);
        Ok(Place::File(Arc::new(Stored { content_type: content_type(&path), forms })))
    }

    fn cache(&self) -> MutexGuard<'_, Cache<Stored>> {
        // It holds no invariant that a panic in between could break.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a client that named a directory like a file to the directory.
pub(crate) fn to_directory(request: &Request<'_>) -> Reply {
    let query = request.query_string().map_or_else(String::new, |query| format!("?{query}"));
    redirect(format!("{}/{query}", request.path())).with_status(301)
}

/// The file at `path`, which the application chose.
pub(crate) fn file(path: PathBuf, request: &Request<'_>) -> Reply {
    let request = request.to_owned();
    Reply::work(move || {
        let form = directory::open(&path).and_then(|file| {
            if !file.metadata()?.is_file() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Form::read(Coding::Identity, file, None)
        });
        match form {
            Ok(form) => {
                let content_type = content_type(&path.to_string_lossy());
                Stored { content_type, forms: vec![form] }.reply(&request, None)
            }
            Err(error) => not_served(&path, &error),
        }
    })
}

fn not_served(path: &Path, error: &io::Error) -> Reply {
    if is_absent(error) {
        return Reply::not_found();
    }
    if directory::is_for_want_of_descriptors(error) {
        return Reply::busy();
    }
    tracing::error!(path = %path.display(), %error, "a file could not be served");
    Reply::internal_error()
}

impl Stored {
    /// What it takes up, if all of it is in memory.
    fn bytes_in_memory(&self) -> Option<u64> {
        let is_in_memory = |form: &Form| matches!(form.content, Content::InMemory(_));
        self.forms
            .iter()
            .all(is_in_memory)
            .then(|| self.forms.iter().map(|f| f.version.bytes).sum())
    }

    fn reply(&self, request: &Request<'_>, cache_control: Option<&str>) -> Reply {
        let accepted = Accepted::parse(request.header("accept-encoding").unwrap_or_default());
        let form = self.forms.iter().find(|form| accepted.takes(form.version.coding));
        let Some(form) = form else { return Reply::not_found() };
        let version = form.version;
        let mut reply = self.reply_of(form, request);
        let last_modified = version.last_modified();
        let last_modified = String::from_utf8_lossy(last_modified.as_bytes()).into_owned();
        reply = reply
            .with_header("ETag", version.entity_tag())
            .with_header("Last-Modified", last_modified)
            .with_header("Accept-Ranges", "bytes")
            .with_header("X-Content-Type-Options", "nosniff");
        if let Some(value) = cache_control {
            reply = reply.with_header("Cache-Control", value.to_owned());
        }
        if self.forms.len() > 1 {
            reply = reply.with_header("Vary", "Accept-Encoding");
        }
        reply
    }

    /// The bytes that are asked for, or why there are none.
    fn reply_of(&self, form: &Form, request: &Request<'_>) -> Reply {
        let version = form.version;
        let expected = (request.header("if-match"), request.header("if-unmodified-since"));
        let known = (request.header("if-none-match"), request.header("if-modified-since"));
        if !version.is_expected(expected.0, expected.1) {
            return status(412);
        }
        if version.is_known(known.0, known.1) {
            return status(304);
        }
        let reply = form.reply(request);
        if reply.status() == 416 {
            return reply; // A sentence, which is not of the file's type.
        }
        let reply = reply.with_content_type(self.content_type);
        match version.coding.name() {
            Some(name) => reply.with_header("Content-Encoding", name),
            None => reply,
        }
    }
}

impl Form {
    /// Looks at an opened file and reads a small one, unless what is `known` of it is still true.
    fn read(coding: Coding, file: File, known: Option<&Stored>) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (modified, bytes) = (metadata.modified()?, metadata.len());
        let mut version = Version { modified, bytes, coding };
        let is_same = |form: &&Form| form.version == version;
        if let Some(form) = known.and_then(|stored| stored.forms.iter().find(is_same)) {
            return Ok(Form { version, content: form.content.clone() });
        }
        if version.bytes > CACHED_FILE_BYTES_MAX {
            return Ok(Form { version, content: Content::OnDisk(Arc::new(file)) });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(version.bytes).unwrap_or(0));
        (&file).take(CACHED_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        // It may have been written to since it was looked at.
        version.bytes = bytes.len() as u64;
        Ok(Form { version, content: Content::InMemory(bytes.into()) })
    }

    fn reply(&self, request: &Request<'_>) -> Reply {
        let bytes = self.version.bytes;
        let asked = request.header("range").filter(|_| {
            request.method() == "GET" && self.version.continues(request.header("if-range"))
        });
        match asked.map_or(Wanted::Whole, |range| wanted(range, bytes)) {
            Wanted::Whole => self.part(0..bytes),
            Wanted::Part(range) => {
                let content_range = format!("bytes {}-{}/{bytes}", range.start, range.end - 1);
                self.part(range).with_status(206).with_header("Content-Range", content_range)
            }
            Wanted::Nothing => status(416).with_header("Content-Range", format!("bytes */{bytes}")),
        }
    }

    fn part(&self, range: Range<u64>) -> Reply {
        match &self.content {
            Content::InMemory(content) => {
                let at = |place: u64| usize::try_from(place).expect("a range of it is inside it");
                Reply::shared(Arc::clone(content), at(range.start)..at(range.end))
            }
            Content::OnDisk(file) => Reply::pieces(Pieces { file: Arc::clone(file), range }),
        }
    }
}
