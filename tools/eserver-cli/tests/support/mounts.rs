//! File systems of our own to break: an ext4 image that can lose its power, a tmpfs that fills up.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::program::{find, require_root, run};
use super::within;

/// The ioctl `EXT4_IOC_SHUTDOWN` with the flag "do not flush the journal": from here on nothing
/// reaches the disk, as when the power goes. Perl, because this needs no compiler and no `unsafe`.
const CUT_POWER: &str = r#"
    open(my $directory, "<", $ARGV[0]) or die "open $ARGV[0]: $!";
    my $flag = pack("L", 2);
    ioctl($directory, 0x8004587d, $flag) or die "EXT4_IOC_SHUTDOWN: $!";
"#;

/// A mounted file system; unmounted when dropped.
pub(crate) struct Mount {
    point: PathBuf,
    mounted: bool,
    directory: TempDir,
}

impl Mount {
    /// An ext4 file system in a file of `mebibytes`, mounted through a loop device.
    pub(crate) fn ext4(mebibytes: u64) -> Self {
        require_root("cutting the power of a loop-mounted image");
        let mut mount = Self::at_new_directory();
        let image = std::fs::File::create(mount.image()).expect("a file for the image");
        image.set_len(mebibytes << 20).expect("room for a sparse image");
        run(Command::new(find("mkfs.ext4", "e2fsprogs")).args(["-q", "-F"]).arg(mount.image()));
        mount.mount_image();
        mount
    }

    /// A tmpfs that holds `mebibytes` and not a byte more.
    pub(crate) fn tmpfs(mebibytes: u64) -> Self {
        require_root("mounting a small tmpfs");
        let mut mount = Self::at_new_directory();
        run(Command::new(find("mount", "mount"))
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={mebibytes}m"))
            .arg("none")
            .arg(&mount.point));
        mount.mounted = true;
        mount
    }

    fn at_new_directory() -> Self {
        let directory = TempDir::new().expect("a private directory");
        let point = directory.path().join("mounted");
        std::fs::create_dir(&point).expect("a new directory");
        Self { point, mounted: false, directory }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn mount_image(&mut self) {
        let mut command = Command::new(find("mount", "mount"));
        command.args(["-o", "loop"]).arg(self.image());
        let output = command.arg(&self.point).output().expect("mount runs");
        assert!(
            output.status.success(),
            "cannot mount an image ({}); a container needs loop devices, for example \
             docker run --privileged -v /dev:/dev",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        self.mounted = true;
    }

    /// The root of the mounted file system.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// Changes the size of a tmpfs.
    pub(crate) fn resize(&self, mebibytes: u64) {
        run(Command::new(find("mount", "mount"))
            .arg("-o")
            .arg(format!("remount,size={mebibytes}m"))
            .arg(&self.point));
    }

    /// Takes the power away: what the journal has not got by now is lost.
    pub(crate) fn cut_power(&self) {
        run(Command::new(find("perl", "perl")).args(["-e", CUT_POWER]).arg(&self.point));
    }

    /// Gives the power back: unmounts what died and mounts it again, which replays the journal.
    pub(crate) fn restore_power(&mut self) {
        assert!(self.unmount(), "cannot unmount {}", self.point.display());
        self.mount_image();
    }

    /// Whether it is unmounted now; a process that is just dying may hold it for a moment.
    fn unmount(&mut self) -> bool {
        let attempt = || {
            let output = Command::new("umount").arg(&self.point).output().ok()?;
            output.status.success().then_some(())
        };
        if self.mounted && within(std::time::Duration::from_secs(10), attempt).is_some() {
            self.mounted = false;
        }
        !self.mounted
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if !self.unmount() {
            // Better a lazy unmount than a mount that stays: something failed before.
            drop(Command::new("umount").arg("--lazy").arg(&self.point).status());
        }
    }
}
