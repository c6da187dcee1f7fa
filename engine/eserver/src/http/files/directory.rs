//! [`Directory`]: opens what lies in it, and nothing else.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

/// How often a path is looked up again that somebody is changing at the moment.
const LOOKS_MAX: usize = 16;

/// How files are opened: a pipe without a writer must not hold the thread.
const FLAGS: OFlag = OFlag::O_NONBLOCK.union(OFlag::O_NOCTTY);

/// A directory that nobody gets out of.
pub(super) struct Directory {
    root: PathBuf,
}

/// Whether a path that a client sent, decoded, can be one of a file in a directory: no segment is
/// empty, but for the last, or a step up, or hidden.
pub(super) fn is_inside(path: &str) -> bool {
    let mut segments = path.split('/').peekable();
    let mut is_first = true;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        let is_named = (is_last || !segment.is_empty()) && !segment.contains(['\0', '\\']);
        let is_hidden = segment.starts_with('.') && !(is_first && segment == ".well-known");
        if !is_named || is_hidden {
            return false;
        }
        is_first = false;
    }
    true
}

/// Whether an error says that there is nothing to be had by that name.
pub(super) fn is_absent(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    let absent = matches!(
        code,
        // EXDEV is what a link that leads out of the directory gives, ENXIO a socket.
        Some(
            Errno::ENOENT
                | Errno::ENOTDIR
                | Errno::EXDEV
                | Errno::ELOOP
                | Errno::ENAMETOOLONG
                | Errno::EACCES
                | Errno::EPERM
                | Errno::ENXIO
        )
    );
    absent || error.kind() == io::ErrorKind::NotFound
}

/// Whether an error says that too much is open at the moment.
pub(super) fn is_for_want_of_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}

/// Opens what somebody trusted has named.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(FLAGS.bits()).open(path)
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Directory { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The directory as it is now: its name may be a link that is put to other places in time.
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.root)
    }

    /// What `path` names inside of `root`, which [`Directory::open`] gave.
    pub(super) fn open_file(&self, root: &File, path: &str) -> io::Result<File> {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | FLAGS)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        self.open_by(path, || openat2(root, path, how).map(File::from))
    }

    fn open_by(&self, path: &str, mut open: impl FnMut() -> nix::Result<File>) -> io::Result<File> {
        for _ in 0..LOOKS_MAX {
            return match open() {
                Ok(file) => Ok(file),
                // A rename somewhere, just now, leaves the kernel unsure.
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                // Old kernels have no such call, and some sandboxes forbid it.
                Err(Errno::ENOSYS | Errno::EPERM) => self.open_canonical(path),
                Err(error) => Err(error.into()),
            };
        }
        Err(Errno::EAGAIN.into())
    }

    /// The same without the kernel's help.
    fn open_canonical(&self, path: &str) -> io::Result<File> {
        let root = self.root.canonicalize()?;
        let path = root.join(path).canonicalize()?;
        if !path.starts_with(&root) || !(path.is_file() || path.is_dir()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        open(&path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_inside() {
        for path in ["", "a", "a/", "a/b.c", "成功", "a..b", ".well-known/x", "a b", "..."] {
            let hidden = path == "...";
            assert_eq!(is_inside(path), !hidden, "{path}");
        }
        for path in [
            "..",
            "../a",
            "a/..",
            "a/../b",
            ".",
            "./a",
            "a/./b",
            "/a",
            "a//b",
            "//",
            "\0",
            "a\0b",
            "a\\..\\b",
            ".git",
            "a/.env",
            "a/.well-known",
            ".well-known/..",
        ] {
            assert!(!is_inside(path), "{path:?}");
        }
    }

    #[test]
    fn what_errors_say() {
        for (error, absent, scarce) in [
            (Errno::ENOENT, true, false),
            (Errno::EACCES, true, false),
            (Errno::EMFILE, false, true),
            (Errno::ENFILE, false, true),
            (Errno::EIO, false, false),
        ] {
            let seen = (is_absent(&error.into()), is_for_want_of_descriptors(&error.into()));
            assert_eq!(seen, (absent, scarce), "{error}");
        }
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        std::fs::write(root.join("sub/file"), "inside").unwrap();
        symlink("sub/file", root.join("good")).unwrap();
        symlink("../secret", root.join("up")).unwrap();
        symlink(place.path().join("secret"), root.join("absolute")).unwrap();
        symlink("/", root.join("slash")).unwrap();
        symlink("loop", root.join("loop")).unwrap();

        let directory = Directory::new(root);
        let opened = directory.open().unwrap();
        type Open<'a> = &'a dyn Fn(&str) -> io::Result<File>;
        let by_kernel: Open<'_> = &|path| directory.open_file(&opened, path);
        let by_hand: Open<'_> = &|path| directory.open_canonical(path);
        for open in [by_kernel, by_hand] {
            for path in ["sub/file", "good"] {
                let mut text = String::new();
                open(path).unwrap().read_to_string(&mut text).unwrap();
                assert_eq!(text, "inside");
            }
            for path in
                ["up", "absolute", "slash/etc/passwd", "../secret", "loop", "none", "good/x"]
            {
                let error = open(path).unwrap_err();
                assert!(is_absent(&error), "{path}: {error}");
            }
        }

        // What the kernel may say besides, and what is tried then.
        for (errors, expected) in [
            (vec![], Ok(())),
            (vec![Errno::ENOSYS], Ok(())),
            (vec![Errno::EPERM], Ok(())),
            (vec![Errno::EAGAIN, Errno::EINTR, Errno::EAGAIN], Ok(())),
            (vec![Errno::EAGAIN; LOOKS_MAX], Err(Some(Errno::EAGAIN as i32))),
            (vec![Errno::EACCES], Err(Some(Errno::EACCES as i32))),
        ] {
            let mut answers = errors.iter();
            let opened = directory.open_by("good", || match answers.next() {
                Some(error) => Err(*error),
                None => Ok(File::open("/dev/null").unwrap()),
            });
            let opened = opened.map(drop).map_err(|error| error.raw_os_error());
            assert_eq!(opened, expected, "{errors:?}");
            assert!(answers.next().is_none(), "{errors:?}");
        }
    }
}
