//! How large a ring may be where little memory may be locked.
//!
//! The kernel counts the queues of a ring as memory that its user has locked: 104 KiB for 1024 entries. Many systems allow
//! 64 KiB in all. Smaller rings only submit more often; so where the limit is low, rings are small rather than none.

use super::mapping::Mapping;
use super::support::lockable;
use rustix::mm::{MlockFlags, mlock_with};
use rustix::process::{Resource, getrlimit};

/// Room in the submission queue. Operations are submitted together when the core runs out of work, so it should
/// hold what a busy turn makes.
pub(super) const ENTRIES: u32 = 1024;
/// Room in the smallest ring: whole pages are counted, so that fewer would take no less memory.
pub(super) const FEWEST: u32 = 64;

/// Bytes of locked memory that a ring counts as: its submissions of 64 bytes, and in another mapping a head, twice as many
/// completions of 16 bytes and a number of 4 for each submission.
fn charge(entries: u32) -> u64 {
    const HEAD: u64 = 320;
    let pages = |bytes: u64| bytes.next_multiple_of(rustix::param::page_size() as u64);
    let entries = u64::from(entries);
    pages(64 * entries) + pages(HEAD + (2 * 16 + 4) * entries)
}

/// Entries of each of so many rings, which together take no more than half of what may be locked: another process of the
/// same user may want the rest.
fn within(limit: u64, rings: usize) -> u32 {
    let share = limit / 2 / rings.max(1) as u64;
    let sizes = std::iter::successors(Some(ENTRIES), |entries| Some(entries / 2));
    sizes.take_while(|entries| *entries > FEWEST).find(|entries| charge(*entries) <= share).unwrap_or(FEWEST)
}

/// Whether this process is refused more locked memory than the limit says. Root is not, unless that right was taken from
/// it.
fn is_bound(limit: u64) -> bool {
    let Some(more) = usize::try_from(limit).ok().and_then(|limit| limit.checked_add(1)) else { return false };
    let Ok(mapping) = Mapping::new(more) else { return false };
    // SAFETY: the whole of a mapping that nobody else knows. No page of it is there, and so none is locked.
    unsafe { mlock_with(mapping.base.as_ptr().cast(), more, MlockFlags::ONFAULT) }.is_err()
}

fn limit() -> Option<u64> {
    getrlimit(Resource::Memlock).current
}

/// Entries to ask for, for each of so many rings of the program.
pub(super) fn of_each(rings: usize) -> u32 {
    match limit().map(|limit| (limit, within(limit, rings))) {
        Some((limit, entries)) if entries < ENTRIES && is_bound(limit) => entries,
        _ => ENTRIES,
    }
}

/// How many of so many cores can have a ring, at least one. Says so when these are not all.
pub fn cores_with_rings(cores: usize) -> usize {
    let most = |limit: u64| usize::try_from(limit / charge(FEWEST)).unwrap_or(usize::MAX).max(1);
    match limit() {
        Some(limit) if most(limit) < cores && is_bound(limit) => {
            tracing::warn!(
                "working on {} processors, not {cores}: too little lockable memory for more rings ({}); raise it with \
                 `ulimit -l`, `LimitMEMLOCK=` in a systemd unit or `--ulimit memlock=-1` for a container",
                most(limit),
                lockable()
            );
            most(limit)
        }
        _ => cores,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_smaller_the_less_may_be_locked() {
        // As Linux counts, with pages of 4096 bytes.
        if rustix::param::page_size() == 4096 {
            assert_eq!([64, 128, 256, 512, 1024].map(|n| charge(n) / 1024), [8, 16, 28, 52, 104]);
            assert_eq!([1, 2, 4, 9].map(|rings| within(64 << 10, rings)), [256, 128, 64, 64]);
            for limit in [64 << 10, 96 << 10, 256 << 10, 1 << 20] {
                for rings in [1, 2, 4] {
                    let sum = charge(within(limit, rings)) * rings as u64;
                    assert!(sum <= limit / 2, "{sum} bytes of {limit} for {rings} rings");
                }
            }
        }
        assert_eq!(within(8 << 20, 16), ENTRIES);
        assert_eq!(within(0, 1), FEWEST);
        assert_eq!(cores_with_rings(1), 1);
    }
}
