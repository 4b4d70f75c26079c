//! The options of `download` and `seed` that say what of a torrent is wanted, how fast, and who comes first.

use super::Error;
use super::args::size;
use super::shunned::Shunned;
use crate::metainfo::Torrent;
use crate::session::Choices;
use crate::swarm::{Limiter, Priority, SeedChoker, Throttle};
use std::ops::RangeInclusive;
use std::sync::Arc;

#[derive(Debug, clap::Args)]
pub(super) struct ChoiceArgs {
    /// Download only these files, by their numbers from 0: 0,2,4-6; what they share with others is fetched too
    #[arg(long, value_name = "FILES", env = "SEEDRING_SELECT", value_delimiter = ',', value_parser = span)]
    select: Vec<Span>,

    /// Files to be downloaded before or after others, or not at all: high:3,low:5-7,skip:8
    #[arg(long, value_name = "LEVEL:FILES", env = "SEEDRING_PRIORITY", value_delimiter = ',', value_parser = level)]
    priority: Vec<(Priority, Span)>,

    /// Download from the start to the end, to play it meanwhile
    #[arg(long, env = "SEEDRING_SEQUENTIAL", value_parser = super::args::switch)]
    sequential: bool,

    /// Send no more than this many bytes a second, of all torrents together, with K, M or G for powers of 1024
    #[arg(long, value_name = "BYTES", env = "SEEDRING_UPLOAD_LIMIT", value_parser = size)]
    upload_limit: Option<u64>,

    /// Receive no more than this many bytes a second, of all torrents together, with K, M or G for powers of 1024
    #[arg(long, value_name = "BYTES", env = "SEEDRING_DOWNLOAD_LIMIT", value_parser = size)]
    download_limit: Option<u64>,

    /// Send no more than this many bytes a second of this torrent
    #[arg(long, value_name = "BYTES", env = "SEEDRING_TORRENT_UPLOAD_LIMIT", value_parser = size)]
    torrent_upload_limit: Option<u64>,

    /// Receive no more than this many bytes a second of this torrent
    #[arg(long, value_name = "BYTES", env = "SEEDRING_TORRENT_DOWNLOAD_LIMIT", value_parser = size)]
    torrent_download_limit: Option<u64>,

    /// Whom to serve when seeding and not everybody can be: each in turn, the fastest, or those at the start or the end
    #[arg(long, value_name = "WHO", env = "SEEDRING_SEED_CHOKER", default_value = "round-robin")]
    seed_choker: Choker,

    /// When seeding, show each peer only a few pieces, others to each, until they are seen to spread (BEP 16)
    #[arg(long, env = "SEEDRING_SUPER_SEED", value_parser = super::args::switch)]
    super_seed: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choker {
    RoundRobin,
    Fastest,
    AntiLeech,
}

/// Numbers of files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span(RangeInclusive<usize>);

/// `4` or `4-6`.
fn span(text: &str) -> Result<Span, String> {
    let number = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<usize>().ok().filter(|_| digits).ok_or("write numbers of files, such as 0,2,4-6")
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first.trim())?, number(last.trim())?);
    if first <= last { Ok(Span(first..=last)) } else { Err(format!("{first} is after {last}")) }
}

/// `high:3` or `low:5-7`.
fn level(text: &str) -> Result<(Priority, Span), String> {
    let (name, files) =
        text.split_once(':').ok_or("write a level and numbers of files, such as high:3,low:5-7")?;
    let priority = match name.trim().to_ascii_lowercase().as_str() {
        "high" => Priority::High,
        "normal" => Priority::Normal,
        "low" => Priority::Low,
        "skip" => Priority::Skip,
        _ => return Err("a level is high, normal, low or skip".into()),
    };
    Ok((priority, span(files)?))
}

/// The limit of the program and that of the torrent: what moves has to be let by both.
fn throttle(limits: [Option<u64>; 2]) -> Throttle {
    Throttle::new(limits.into_iter().flatten().map(|rate| Arc::new(Limiter::new(rate))).collect())
}

impl ChoiceArgs {
    /// What is wanted of this torrent. `linked`: the files that a magnet link has selected, if it has any (BEP 53); what
    /// the user says comes before that.
    ///
    /// # Errors
    /// When the torrent has no such files.
    pub(super) fn choices(
        &self,
        torrent: &Torrent,
        linked: &[RangeInclusive<u32>],
        (filter, most_of_host): Shunned,
    ) -> Result<Choices, Error> {
        Ok(Choices {
            files: self.files(torrent.files.len(), linked)?,
            sequential: self.sequential,
            seed_choker: match self.seed_choker {
                Choker::RoundRobin => SeedChoker::RoundRobin,
                Choker::Fastest => SeedChoker::Fastest,
                Choker::AntiLeech => SeedChoker::AntiLeech,
            },
            super_seed: self.super_seed,
            upload: self.upload(),
            download: self.download(),
            most_of_host,
            filter,
        })
    }

    fn upload(&self) -> Throttle {
        throttle([self.upload_limit, self.torrent_upload_limit])
    }

    fn download(&self) -> Throttle {
        throttle([self.download_limit, self.torrent_download_limit])
    }

    fn files(&self, count: usize, linked: &[RangeInclusive<u32>]) -> Result<Option<Vec<Priority>>, Error> {
        if self.select.is_empty() && self.priority.is_empty() && linked.is_empty() {
            return Ok(None);
        }
        // A link may name files that the torrent does not have: these are passed over, as long as there are others.
        let asks = !linked.is_empty();
        let last = count.saturating_sub(1);
        let linked = linked.iter().map(|range| (*range.start() as usize, *range.end() as usize));
        let linked =
            linked.filter(|(first, _)| *first <= last).map(|(first, end)| Span(first..=end.min(last)));
        let linked: Vec<Span> = linked.collect();
        if asks && linked.is_empty() && self.select.is_empty() {
            return Err(Error::Other(format!(
                "the link selects only files that the torrent does not have: it has {count}, from 0"
            )));
        }
        let select = if self.select.is_empty() { &linked } else { &self.select };
        let first = if select.is_empty() { Priority::Normal } else { Priority::Skip };
        let mut files = vec![first; count];
        let selected = select.iter().map(|span| (Priority::Normal, span));
        let levels = self.priority.iter().map(|(priority, span)| (*priority, span));
        for (priority, Span(range)) in selected.chain(levels) {
            let none =
                || Error::Other(format!("the torrent has no file {}: it has {count}, from 0", range.end()));
            files.get_mut(range.clone()).ok_or_else(none)?.fill(priority);
        }
        if files.iter().all(|file| *file == Priority::Skip) {
            return Err(Error::Other("no file is left to be downloaded".into()));
        }
        Ok(Some(files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        choices: ChoiceArgs,
    }

    fn files(line: &str, count: usize) -> Result<Option<Vec<Priority>>, String> {
        linked(line, count, &[])
    }

    fn linked(
        line: &str,
        count: usize,
        link: &[RangeInclusive<u32>],
    ) -> Result<Option<Vec<Priority>>, String> {
        let line = Line::try_parse_from(format!("x {line}").split_whitespace()).map_err(|e| e.to_string())?;
        line.choices.files(count, link).map_err(|error| error.to_string())
    }

    #[test]
    fn files_are_chosen_by_a_link_unless_the_user_says_otherwise() {
        use Priority::{High, Normal, Skip};
        let chosen = |files: &[Priority]| Ok(Some(files.to_vec()));
        assert_eq!(linked("", 3, &[1..=1]), chosen(&[Skip, Normal, Skip]));
        assert_eq!(linked("", 3, &[2..=9, 7..=u32::MAX]), chosen(&[Skip, Skip, Normal]));
        assert_eq!(linked("--priority high:0", 3, &[2..=2]), chosen(&[High, Skip, Normal]));
        assert_eq!(linked("--select 0", 3, &[1..=1]), chosen(&[Normal, Skip, Skip]));
        assert_eq!(linked("--select 0", 3, &[7..=7]), chosen(&[Normal, Skip, Skip]));
        for line in ["", "--priority high:0"] {
            let error = linked(line, 3, &[3..=3, 7..=9]).unwrap_err();
            assert!(error.contains("selects only files that the torrent does not have: it has 3"), "{error}");
        }
        assert!(linked("--priority skip:1", 3, &[1..=1]).unwrap_err().contains("no file is left"));
    }

    #[test]
    fn the_lower_of_the_programs_and_the_torrents_limits_holds() {
        for (line, up, down) in [
            ("", None, None),
            ("--upload-limit 5K --torrent-upload-limit 3K", Some(3 << 10), None),
            ("--upload-limit 5K --torrent-upload-limit 7K", Some(5 << 10), None),
            ("--torrent-download-limit 2M", None, Some(2 << 20)),
            ("--download-limit 1M --torrent-download-limit 2M", None, Some(1 << 20)),
        ] {
            let line = Line::try_parse_from(format!("x {line}").split_whitespace()).unwrap().choices;
            assert_eq!((line.upload().rate(), line.download().rate()), (up, down));
        }
    }

    #[test]
    fn seeds_serve_everybody_in_turn_unless_the_user_says_otherwise() {
        let file = crate::metainfo::TorrentBuilder {
            name: "n".into(),
            content: crate::metainfo::Content::Single(1),
            piece_length: 16_384,
            pieces: vec![[0; 20]],
            trackers: Vec::new(),
            private: false,
            comment: None,
            created_by: None,
            creation_date: None,
        };
        let torrent = Torrent::parse(&file.build().unwrap().0).unwrap();
        for (line, choker) in [
            ("", SeedChoker::RoundRobin),
            ("--seed-choker round-robin", SeedChoker::RoundRobin),
            ("--seed-choker fastest", SeedChoker::Fastest),
            ("--seed-choker anti-leech", SeedChoker::AntiLeech),
        ] {
            let line = Line::try_parse_from(format!("x {line}").split_whitespace()).unwrap();
            assert_eq!(line.choices.choices(&torrent, &[], (None, None)).unwrap().seed_choker, choker);
        }
    }

    #[test]
    fn files_are_chosen_by_number() {
        use Priority::{High, Low, Normal, Skip};
        assert_eq!(files("", 3), Ok(None));
        assert_eq!(files("--select 0,2-3", 5), Ok(Some(vec![Normal, Skip, Normal, Normal, Skip])));
        assert_eq!(files("--priority high:3,low:0-1", 4), Ok(Some(vec![Low, Low, Normal, High])));
        assert_eq!(
            files("--select 1 --priority high:2 --priority skip:1", 3),
            Ok(Some(vec![Skip, Skip, High]))
        );
        for (line, word) in [
            ("--select 3", "no file 3"),
            ("--select 1-9", "no file 9"),
            ("--select 2-1", "after"),
            ("--select x", "numbers of files"),
            ("--select +1", "numbers of files"),
            ("--priority 3", "level"),
            ("--priority urgent:1", "high, normal, low or skip"),
            ("--priority skip:0-2", "no file is left"),
        ] {
            let error = files(line, 3).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
