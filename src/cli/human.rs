//! Numbers as people read them.

use std::time::Duration;

/// A size, with powers of 1024: `512 B`, `16.0 KiB`, `1.23 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // Just below 1024 it would be printed as 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if unit >= 2 { 2 } else { 1 };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// A rate in bytes a second.
pub(super) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", size(bytes_per_second))
}

/// A time, in its two largest units: `8 s`, `3 min 20 s`, `2 h 5 min`, `4 d 1 h`.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => pair(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => pair(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => pair(seconds / 86400, "d", seconds / 3600 % 24, "h"),
    }
}

/// A number and what it counts: `1 peer`, `2 peers`.
pub(super) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {}", many(what)) }
}

/// More than one of it.
pub(super) fn many(what: &str) -> String {
    format!("{what}{}", if what.ends_with("ch") { "es" } else { "s" })
}

/// Numbers in rising order, neighbours joined, cut after `most` groups: `3, 7-9, 20 and 4 more`.
pub(super) fn ranges(numbers: &[u32], most: usize) -> String {
    let groups: Vec<_> = numbers.chunk_by(|a, b| b.checked_sub(1) == Some(*a)).collect();
    let text = |group: &&[u32]| match group {
        [first, .., last] => format!("{first}-{last}"),
        one => one[0].to_string(),
    };
    let shown: Vec<_> = groups.iter().take(most).map(text).collect();
    let rest: usize = groups.iter().skip(most).map(|group| group.len()).sum();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (16384, "16.0 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (256 << 20, "256.0 MiB"),
            (1_320_702_444, "1.23 GiB"),
            (u64::MAX, "16.00 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(rate(3 << 20), "3.0 MiB/s");
    }

    #[test]
    fn times() {
        let cases = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (200, "3 min 20 s"),
            (7500, "2 h 5 min"),
            (86400 * 4 + 3700, "4 d 1 h"),
        ];
        for (seconds, text) in cases {
            assert_eq!(time(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn ranges_join_neighbours_and_stop() {
        assert_eq!(ranges(&[], 3), "");
        assert_eq!(ranges(&[3, 7, 8, 9, 20], 3), "3, 7-9, 20");
        assert_eq!(ranges(&[0, 1, 5, 7, 8, 9], 2), "0-1, 5 and 3 more");
    }

    #[test]
    fn counts() {
        assert_eq!((count(1, "peer"), count(0, "peer")), ("1 peer".into(), "0 peers".into()));
        assert_eq!(count(2, "leech"), "2 leeches");
    }
}
