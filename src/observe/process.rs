//! Figures of this process, under the names that every Prometheus exporter has them.

use super::text::Page;
use std::fs;

/// Adds what `/proc` says now; what it does not say is left out.
pub(super) fn write(page: &mut Page) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let field = |number| field(&stat, number);
    let one = |value: Option<f64>| value.map(|value| (Vec::new(), value));
    let cpu = field(14).zip(field(15)).map(|(user, system)| (user + system) as f64 / ticks);
    page.family(
        ("process_cpu_seconds_total", "counter", "Processor time used, in user space and in the kernel."),
        one(cpu),
    );
    let start = boot_time().zip(field(22)).map(|(boot, start)| boot as f64 + start as f64 / ticks);
    page.family(
        ("process_start_time_seconds", "gauge", "When the process was started, since the Unix epoch."),
        one(start),
    );
    let resident = field(24).map(|pages| pages as f64 * rustix::param::page_size() as f64);
    page.family(
        ("process_resident_memory_bytes", "gauge", "Memory of the process that is resident."),
        one(resident),
    );
    page.family(
        ("process_virtual_memory_bytes", "gauge", "Memory that is mapped."),
        one(field(23).map(|bytes| bytes as f64)),
    );
    page.family(("process_threads", "gauge", "Threads of the process."), one(field(20).map(|n| n as f64)));
    // One of them is the look at them.
    let open = fs::read_dir("/proc/self/fd").map(|open| (open.count() - 1) as f64).ok();
    page.family(("process_open_fds", "gauge", "Open file descriptors."), one(open));
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    page.family(
        ("process_max_fds", "gauge", "File descriptors that may be open."),
        one(most.map(|most| most as f64)),
    );
}

/// A field of `/proc/self/stat`, numbered as in proc(5). The second is the program's name, in parentheses, with
/// anything in it.
fn field(stat: &str, number: usize) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    behind_name.split_whitespace().nth(number - 3)?.parse().ok()
}

/// When the machine was started, in seconds since the Unix epoch.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a ) 1 (b) S 4 5 6 7 8 9 10 11 12 13 14 15 16";
        assert_eq!((field(stat, 4), field(stat, 14), field(stat, 99)), (Some(4), Some(14), None));
        assert_eq!(field("", 4), None);
    }

    #[test]
    fn this_process_shows_itself() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.into_string();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap_or_else(|| panic!("{name}: {text}"));
            line.trim().parse().unwrap()
        };
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_resident_memory_bytes ") >= 100_000.0);
        assert!(value("process_threads ") >= 1.0);
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds ");
        assert!((-5.0..86_400.0).contains(&age), "{age} s old");
    }
}
