//! Programs that tests and benchmarks need, installed by the system's own package manager.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Package and program, where the two have different names. A program that is not on the path is
/// named with where it lies.
const PROGRAMS: &[(&str, &str)] = &[
    ("apache2-utils", "ab"),
    ("e2fsprogs", "mkfs.ext4"),
    ("iproute2", "ip"),
    ("libfaketime", "/usr/lib/*/faketime/libfaketime.so.1"),
    ("libnginx-mod-nchan", "/usr/lib/nginx/*/ngx_nchan_module.so"),
    ("mariadb-server", "mariadbd"),
    ("nodejs", "node"),
    ("php-cli", "php"),
    ("php-fpm", "php-fpm*"),
    ("php-mysql", "/usr/lib/php/*/pdo_mysql.so"),
    ("php-pgsql", "/usr/lib/php/*/pdo_pgsql.so"),
    ("php-redis", "/usr/lib/php/*/redis.so"),
    ("php-sqlite3", "/usr/lib/php/*/pdo_sqlite.so"),
    ("python3-requests", "/usr/lib/*/dist-packages/requests/__init__.py"),
    ("postgresql", "/usr/lib/postgresql/*/bin/postgres"),
    ("util-linux", "prlimit"),
];

/// Makes sure that the program of each Debian package is there.
///
/// # Errors
/// When one is missing and cannot be installed from here; the error is the command to type.
pub(crate) fn ensure(packages: &[&str]) -> Result<()> {
    let missing: Vec<_> = packages.iter().copied().filter(|package| !is_there(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("sudo apt-get install -y {}", missing.join(" "));
    if find("apt-get").is_none() {
        bail!(
            "these programs are missing, and there is no apt-get to install them: {}; \
             on Debian it would be: {by_hand}",
            missing.join(", ")
        );
    }
    if std::fs::metadata("/proc/self").is_ok_and(|ourselves| ourselves.uid() != 0) {
        bail!("some programs are missing; install them with: {by_hand}");
    }
    println!("installing {}", missing.join(", "));
    apt_get(&["update"]).with_context(|| by_hand.clone())?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(&missing);
    apt_get(&arguments).with_context(|| by_hand.clone())?;
    match missing.iter().find(|package| !is_there(package)) {
        Some(package) => bail!("{package} was installed, but its program is not on the path"),
        None => Ok(()),
    }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let status = Command::new("apt-get")
        .args(arguments)
        .arg("--quiet")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .status()
        .context("cannot run apt-get")?;
    if !status.success() {
        bail!("apt-get {} ended with {status}", arguments.join(" "));
    }
    Ok(())
}

fn is_there(package: &str) -> bool {
    let other_name = PROGRAMS.iter().find(|(name, _)| *name == package);
    find(other_name.map_or(package, |(_, program)| program)).is_some()
}

/// The program on the path, or where system programs lie; a `*` stands for a version.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    if let Some((directory, rest)) = program.split_once("/*/") {
        return std::fs::read_dir(directory)
            .ok()?
            .filter_map(|entry| Some(entry.ok()?.path().join(rest)))
            .find(|path| path.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_it = |name: &str| match program.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == program,
    };
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin".into(), "/usr/sbin".into(), "/sbin".into()])
        .filter_map(|directory| std::fs::read_dir(directory).ok())
        .flatten()
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_str().is_some_and(is_it))
        .map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_installed() {
        assert!(find("sh").is_some());
        assert!(find("s*").is_some());
        ensure(&["sh"]).expect("a shell is everywhere");
    }

    #[test]
    fn a_program_may_lie_in_a_directory_of_its_version() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("15/bin/program");
        let pattern = format!("{}/*/bin/program", directory.path().display());
        assert_eq!(find(&pattern), None);
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "").unwrap();
        assert_eq!(find(&pattern), Some(program));
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        assert_eq!(find("no-such-program"), None);
    }
}
