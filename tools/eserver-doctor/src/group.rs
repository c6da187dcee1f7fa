//! [`Groups`]: the control groups a process is in, from the inmost to the outermost, and where their
//! files are.

/// The groups of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Groups<'t> {
    /// `/proc/PID/cgroup`.
    membership: &'t str,
    /// `/proc/self/mountinfo`.
    mounts: &'t str,
}

/// The directories of one hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    /// Whether it is the unified one (cgroup-v2), whose files have other names.
    pub(crate) is_unified: bool,
    /// The inmost first: a limit of any of them counts, since each is charged with what is in those
    /// below it (cgroup-v2, "Top-down Constraint").
    pub(crate) directories: Vec<String>,
}

impl<'t> Groups<'t> {
    pub(crate) fn new(membership: &'t str, mounts: &'t str) -> Self {
        Groups { membership, mounts }
    }

    /// The hierarchy that has this controller.
    pub(crate) fn with(self, controller: &str) -> Option<Hierarchy> {
        // Each line is `number:controllers:path`; the unified hierarchy is number 0 and names none.
        let lines = self.membership.lines().filter_map(|line| {
            let (_, rest) = line.split_once(':')?;
            rest.split_once(':')
        });
        let named = |names: &str| names.split(',').any(|name| name == controller);
        if let Some((_, path)) = lines.clone().find(|(names, _)| named(names)) {
            return self.directories(path, |kind, options| {
                kind == "cgroup" && options.split(',').any(|option| option == controller)
            });
        }
        let (_, path) = lines.clone().find(|(names, _)| names.is_empty())?;
        self.directories(path, |kind, _| kind == "cgroup2")
    }

    /// The unit of systemd that the process belongs to, if it is a service.
    pub(crate) fn service(self) -> Option<&'t str> {
        let paths = self.membership.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        let part = |path: &'t str| path.split('/').rfind(|part| part.ends_with(".service"));
        // Services of a person's own manager run below `user@1000.service`.
        paths.filter_map(part).find(|unit| !unit.starts_with("user@"))
    }

    /// The directories for `path` in the first mount that fits.
    fn directories(self, path: &str, fits: impl Fn(&str, &str) -> bool) -> Option<Hierarchy> {
        // proc_pid_mountinfo(5): root and mount point are the fourth and fifth field; behind a dash
        // stand the type, the source and the options of the file system.
        self.mounts.lines().find_map(|line| {
            let (mount, system) = line.split_once(" - ")?;
            let mut mount = mount.split(' ').skip(3);
            let (root, point) = (mount.next()?, mount.next()?);
            let mut system = system.split(' ');
            let (kind, options) = (system.next()?, system.nth(1)?);
            if !fits(kind, options) {
                return None;
            }
            // In a container the mount shows a part of the tree, and paths may be seen from outside.
            let inner = path.strip_prefix(root.trim_end_matches('/')).unwrap_or(path);
            let inner = inner.trim_matches('/');
            let mut directories = Vec::new();
            let mut rest = if inner.starts_with("..") { "" } else { inner };
            while !rest.is_empty() {
                directories.push(format!("{point}/{rest}"));
                rest = rest.rsplit_once('/').map_or("", |(outer, _)| outer);
            }
            directories.push(point.to_owned());
            Some(Hierarchy { is_unified: kind == "cgroup2", directories })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIFIED: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const OLD: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                       36 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                       39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                       41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[track_caller]
    fn check(membership: &str, mounts: &str, controller: &str, expected: &[&str]) {
        let found = Groups::new(membership, mounts).with(controller);
        let directories = found.map(|found| found.directories).unwrap_or_default();
        assert_eq!(directories, expected);
    }

    #[test]
    fn a_group_is_within_those_above_it() {
        let expected = [
            "/sys/fs/cgroup/system.slice/eserver.service",
            "/sys/fs/cgroup/system.slice",
            "/sys/fs/cgroup",
        ];
        check("0::/system.slice/eserver.service\n", UNIFIED, "memory", &expected);
        check("0::/\n", UNIFIED, "pids", &["/sys/fs/cgroup"]);
        // A process that is outside of what this namespace shows.
        check("0::/../other\n", UNIFIED, "pids", &["/sys/fs/cgroup"]);
    }

    #[test]
    fn old_hierarchies_have_a_mount_each_and_containers_see_a_part() {
        let membership = "8:pids:/a/b\n4:memory:/docker/1\n1:name=systemd:/\n0::/z\n";
        check(membership, OLD, "memory", &["/sys/fs/cgroup/memory"]);
        let expected = ["/sys/fs/cgroup/pids/a/b", "/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/pids"];
        check(membership, OLD, "pids", &expected);
        let expected = ["/sys/fs/cgroup/unified/z", "/sys/fs/cgroup/unified"];
        check(membership, OLD, "hugetlb", &expected);
        check("", OLD, "memory", &[]);
        check(membership, "", "memory", &[]);
        let old = Groups::new(membership, OLD);
        assert!(!old.with("pids").unwrap().is_unified && old.with("io").unwrap().is_unified);
    }

    #[test]
    fn a_service_is_known_by_its_group() {
        let unit = |membership| Groups::new(membership, "").service();
        assert_eq!(unit("0::/system.slice/eserver.service\n"), Some("eserver.service"));
        assert_eq!(
            unit("4:memory:/x\n1:name=systemd:/system.slice/a.service\n"),
            Some("a.service")
        );
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        let own = "0::/user.slice/user-7.slice/user@7.service/app.slice/push.service\n";
        assert_eq!(unit(own), Some("push.service"));
        assert_eq!(unit("0::/user.slice/user@7.service/init.scope\n"), None);
    }
}
