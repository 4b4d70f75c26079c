//! How much memory there is for the program and for what the page cache keeps for it: that of the machine, or what its cgroup (the
//! container) leaves it.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// That memory, in bytes, as it was when it was first asked for.
pub fn memory() -> u64 {
    static MEMORY: OnceLock<u64> = OnceLock::new();
    *MEMORY.get_or_init(|| {
        let info = rustix::system::sysinfo();
        #[expect(clippy::useless_conversion, reason = "the kernel's type depends on the machine")]
        let machine = u64::from(info.totalram).saturating_mul(u64::from(info.mem_unit));
        let read = |path: &Path| std::fs::read_to_string(path).ok();
        machine.min(cgroup_limit(read).unwrap_or(u64::MAX))
    })
}

/// The least of the limits on the memory (bytes) of this process's cgroup and of those above it, as far as they can be seen;
/// `None` when there is none. `read` gives the text of a file.
fn cgroup_limit(read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let limits = mounts.lines().filter_map(Mount::parse).filter_map(|mount| {
        let group = mount.group(&groups)?;
        let files: &[&str] =
            if mount.unified { &["memory.max", "memory.high"] } else { &["memory.limit_in_bytes"] };
        let folders = group.ancestors().take_while(|folder| folder.starts_with(&mount.point));
        let paths = folders.flat_map(|folder| files.iter().map(move |file| folder.join(file)));
        // "max" is none; version 1 says so by a number that no machine has.
        paths.filter_map(|path| read(&path)?.trim().parse::<u64>().ok()).min()
    });
    limits.min()
}

/// A place where cgroups that limit memory are mounted.
struct Mount {
    /// The cgroup that is seen there.
    root: PathBuf,
    point: PathBuf,
    /// Whether it is of version 2.
    unified: bool,
}

impl Mount {
    /// Reads a line of `mountinfo` (proc(5)): number, parent, device, root, mount point, options, further fields, `-`, kind of
    /// the file system, source, its own options.
    fn parse(line: &str) -> Option<Self> {
        let (here, there) = line.split_once(" - ")?;
        let mut here = here.split(' ').skip(3).map(unescape);
        let (root, point) = (here.next()?, here.next()?);
        let there: Vec<&str> = there.split(' ').collect();
        let unified = match there[..] {
            ["cgroup2", ..] => true,
            ["cgroup", _, options, ..] if options.split(',').any(|option| option == "memory") => false,
            _ => return None,
        };
        Some(Self { root: root.into(), point: point.into(), unified })
    }

    /// The folder of this process's cgroup, by `/proc/self/cgroup`: lines of number, controllers, path. One that lies outside
    /// of what is mounted is taken for what is mounted: there the limits are those of somebody above.
    fn group(&self, groups: &str) -> Option<PathBuf> {
        let own = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let found = match self.unified {
                true => number == "0" && controllers.is_empty(),
                false => controllers.split(',').any(|controller| controller == "memory"),
            };
            found.then(|| Path::new(path))
        })?;
        let below = own.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let climbs = below.components().any(|part| part == std::path::Component::ParentDir);
        Some(if climbs { self.point.clone() } else { self.point.join(below) })
    }
}

/// A path of `mountinfo`, where a space is `\\040`, and so on.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |field, (code, text)| field.replace(code, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "25 1 0:22 / / rw - ext4 /dev/sda rw\n\
        30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:15 master:3 - cgroup cgroup rw,memory\n";

    fn limit(groups: &str, mounts: &str, files: &[(&str, &str)]) -> Option<u64> {
        cgroup_limit(|path| match path.to_str().unwrap() {
            "/proc/self/cgroup" => Some(groups.to_owned()),
            "/proc/self/mountinfo" => Some(mounts.to_owned()),
            path => files.iter().find(|(name, _)| *name == path).map(|(_, text)| format!("{text}\n")),
        })
    }

    #[test]
    fn the_least_limit_of_a_cgroup_and_those_above_it_holds() {
        let own = "0::/user.slice/app\n";
        let files = [
            ("/sys/fs/cgroup/user.slice/app/memory.max", "max"),
            ("/sys/fs/cgroup/user.slice/app/memory.high", "3000"),
            ("/sys/fs/cgroup/user.slice/memory.max", "2000"),
            ("/sys/fs/cgroup/other/memory.max", "1"),
        ];
        assert_eq!(limit(own, V2, &files), Some(2000));
        assert_eq!(limit(own, V2, &files[..2]), Some(3000));
        assert_eq!(limit(own, V2, &files[..1]), None);
        assert_eq!(limit("0::/\n", V2, &[("/sys/fs/cgroup/memory.max", "7")]), Some(7), "in a container");
        assert_eq!(limit("", V2, &files), None);
        assert_eq!(limit(own, "nonsense\n - cgroup2\n", &files), None);
    }

    #[test]
    fn version_1_has_its_own_mount_and_path() {
        let own = "9:name=systemd:/else\n5:cpu,memory:/box\n0::/unified\n";
        let files = [
            ("/sys/fs/cgroup/memory/box/memory.limit_in_bytes", "536870912"),
            ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712"),
        ];
        assert_eq!(limit(own, V1, &files), Some(512 << 20));
        assert_eq!(limit(own, V1, &files[1..]), Some(9_223_372_036_854_771_712));
        let both = format!("{V1}40 31 0:40 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let more = [files[0], ("/sys/fs/cgroup/unified/unified/memory.max", "100")];
        assert_eq!(limit(own, &both, &more), Some(100));
    }

    #[test]
    fn what_is_mounted_may_be_a_part_or_lie_elsewhere() {
        let mount = |root: &str| format!("30 23 0:26 {root} /my\\040groups rw - cgroup2 none rw\n");
        let file = [("/my groups/memory.max", "5"), ("/my groups/in/memory.max", "4")];
        assert_eq!(limit("0::/docker/abc\n", &mount("/docker/abc"), &file), Some(5));
        assert_eq!(limit("0::/docker/abc/in\n", &mount("/docker/abc"), &file), Some(4));
        assert_eq!(limit("0::/elsewhere\n", &mount("/docker/abc"), &file), Some(5));
        assert_eq!(limit("0::/../in\n", &mount("/"), &file), Some(5), "outside of our namespace");
    }
}
