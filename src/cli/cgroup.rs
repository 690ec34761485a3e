//! The memory that the control group of this process may still use: what a container or a batch system grants, which
//! /proc/meminfo does not know. Beyond it the system kills the process.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where a version of control groups keeps its numbers.
struct Version {
    /// Folder of the memory controller.
    base: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// The entry of `memory.stat` for pages of files, which are given back on demand.
    files: &'static str,
}

const V1: Version = Version {
    base: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    files: "total_inactive_file",
};
const V2: Version =
    Version { base: "sys/fs/cgroup", limit: "memory.max", usage: "memory.current", files: "inactive_file" };

/// Bytes that the group and those above it allow in all and still, by the tightest; none without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// The limit.
    pub limit: Option<u64>,
    /// What is left of it.
    pub left: Option<u64>,
}

/// What the group of this process allows.
pub fn allowed() -> Allowed {
    // a folder that stands for the root, in tests
    let root = env::var_os("EYEKERN_ROOT").filter(|root| !root.is_empty());
    read(&root.map_or_else(|| PathBuf::from("/"), PathBuf::from))
}

fn read(root: &Path) -> Allowed {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut all = Allowed::default();
    for line in groups.lines() {
        // ID:CONTROLLERS:PATH; version 2 names no controllers
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version = match controllers {
            "" => V2,
            list if list.split(',').any(|name| name == "memory") => V1,
            _ => continue,
        };
        let base = root.join(version.base);
        // in a container the path may be the host's, and only its root is there
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            tighten(&mut all, &version, &base.join(group));
        }
    }
    all
}

fn tighten(all: &mut Allowed, version: &Version, folder: &Path) {
    let number = |file: &str| fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok();
    // `max` is no number
    let (Some(limit), Some(usage)) = (number(version.limit), number(version.usage)) else { return };
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let entry = |line: &str| line.strip_prefix(version.files)?.trim().parse::<u64>().ok();
    let files = stat.lines().find_map(entry).unwrap_or(0);
    let left = limit.saturating_sub(usage.saturating_sub(files));
    all.limit = Some(all.limit.map_or(limit, |other| other.min(limit)));
    all.left = Some(all.left.map_or(left, |other| other.min(left)));
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// A root with these files, and what it allows in GiB.
    fn allows(files: &[(&str, &str)]) -> (Option<u64>, Option<u64>) {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let Allowed { limit, left } = read(root.path());
        (limit.map(|bytes| bytes / GIB), left.map(|bytes| bytes / GIB))
    }

    #[test]
    fn version_2_takes_the_tightest_of_all_groups_above() {
        let inner = "sys/fs/cgroup/user.slice/job";
        let outer = "sys/fs/cgroup/user.slice";
        let (eight, six, four, two) = (8 * GIB, 6 * GIB, 4 * GIB, 2 * GIB);
        let file = |folder: &str, name: &str| format!("{folder}/{name}");
        let (max, current) = (file(inner, "memory.max"), file(inner, "memory.current"));
        let (above, used) = (file(outer, "memory.max"), file(outer, "memory.current"));
        let stat = file(inner, "memory.stat");
        let group = ("proc/self/cgroup", "0::/user.slice/job\n");
        let text = |n: u64| format!("{n}\n");
        let (eight, six, four, two) = (text(eight), text(six), text(four), text(two));
        assert_eq!(allows(&[group]), (None, None));
        assert_eq!(allows(&[group, (&max, "max\n"), (&current, &four)]), (None, None));
        assert_eq!(allows(&[group, (&max, &eight), (&current, &six)]), (Some(8), Some(2)));
        // pages of files are given back
        let files = format!("anon 5\ninactive_anon 1\ninactive_file {}\nactive_file 7\n", 3 * GIB);
        assert_eq!(allows(&[group, (&max, &eight), (&current, &six), (&stat, &files)]), (Some(8), Some(5)));
        // a group above has less left than this one
        let all = [group, (&max, &four), (&current, &two), (&above, &eight), (&used, &eight)];
        assert_eq!(allows(&all), (Some(4), Some(0)));
    }

    #[test]
    fn version_1_is_read_in_a_container_that_shows_its_root_only() {
        let group = ("proc/self/cgroup", "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n1:name=systemd:/docker/1\n");
        let (limit, usage) =
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/memory/memory.usage_in_bytes");
        let stat = ("sys/fs/cgroup/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 2147483648\n");
        let files = [group, (limit, "17179869184\n"), (usage, "6442450944\n"), stat];
        assert_eq!(allows(&files), (Some(16), Some(12)));
    }
}
