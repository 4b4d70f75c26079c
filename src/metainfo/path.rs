//! File names that are safe on disk and on a terminal, whatever the torrent says.
//!
//! Raw names end here: the rest of the program only sees components that are not empty, not `.` or `..`, hold no
//! separator and no control character, and stay below the limit of file systems with [`PART_SUFFIX`] appended.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// What the name of a file ends in while the file is incomplete. No other entry of a torrent has that name.
pub const PART_SUFFIX: &str = ".part";

/// Longest component in bytes: leaves room for the number of a duplicate and for [`PART_SUFFIX`] below 255.
const MAX_NAME: usize = 240;
/// Longest extension, dot included, that survives when a component is cut.
const MAX_EXTENSION: usize = 10;
/// How many times a torrent may make us try another name because one is taken.
const MAX_CLASHES: u32 = 500;

/// More names are taken than an honest torrent would have.
#[derive(Debug)]
pub(super) struct TooManyClashes;

/// One component of a path: never empty, `_` when nothing usable is left.
pub(super) fn component(raw: &[u8]) -> String {
    usable(raw).unwrap_or_else(|| "_".into())
}

/// A component, when anything usable is left of the raw name.
pub(super) fn usable(raw: &[u8]) -> Option<String> {
    let unsafe_to_keep = |c: char| is_invisible(c) || c.is_control() || c == '/' || c == '\\';
    let clean: String = decode(raw, "_").filter(|c| !unsafe_to_keep(*c)).collect();
    (!matches!(clean.as_str(), "" | "." | "..")).then(|| shorten(clean))
}

/// Text from a torrent as it may be shown to people: one line, without anything that steers a terminal.
pub(super) fn display_text(raw: &[u8]) -> String {
    let clean: String = decode(raw, "\u{fffd}")
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    clean.trim().into()
}

/// The characters of `raw`, with `substitute` for each stretch that is not UTF-8.
fn decode<'a>(raw: &'a [u8], substitute: &'a str) -> impl Iterator<Item = char> + 'a {
    raw.utf8_chunks().flat_map(move |chunk| {
        let broken = if chunk.invalid().is_empty() { "" } else { substitute };
        chunk.valid().chars().chain(broken.chars())
    })
}

/// Characters without width, and those that turn the direction of writing: they make a name look like another.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Cuts a name to [`MAX_NAME`] bytes; a short extension stays.
fn shorten(name: String) -> String {
    if name.len() <= MAX_NAME {
        return name;
    }
    let (stem, extension) = split_extension(&name);
    let (stem, extension) =
        if extension.len() <= MAX_EXTENSION { (stem, extension) } else { (name.as_str(), "") };
    let end = stem.floor_char_boundary(MAX_NAME - extension.len());
    format!("{}{extension}", &stem[..end])
}

/// Splits before the last dot, unless the name starts with it.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Renames files until no two paths are equal, no file has the name of a directory, and no name is another
/// file's name with [`PART_SUFFIX`]. Directories keep their names; a renamed file gets a number before its
/// extension. The paths have at least one component each. Returns how many were renamed.
pub(super) fn make_unique(paths: &mut [&mut Vec<String>]) -> Result<usize, TooManyClashes> {
    let mut tree = Tree::default();
    let parents: Vec<Node> = paths.iter().map(|path| tree.enter(&path[..path.len() - 1])).collect();
    let mut renamed = 0;
    for (path, parent) in paths.iter_mut().zip(parents) {
        let name = path.last_mut().expect("a path has a component");
        renamed += usize::from(tree.place(parent, name)?);
    }
    Ok(renamed)
}

/// An entry of the tree: the keyed hash of its path. Two entries with one hash would only look like a clash.
type Node = u64;

#[derive(PartialEq)]
enum Kind {
    Directory,
    File,
}

#[derive(Default)]
struct Tree {
    hasher: RandomState,
    entries: HashMap<Node, Kind>,
    clashes: u32,
}

impl Tree {
    fn node(&self, parent: Node, name: &str) -> Node {
        self.hasher.hash_one((parent, name))
    }

    /// Adds the directories on the way down and returns the last.
    fn enter(&mut self, directories: &[String]) -> Node {
        directories.iter().fold(0, |parent, name| {
            let node = self.node(parent, name);
            self.entries.insert(node, Kind::Directory);
            node
        })
    }

    /// Adds a file, under another name if need be; then that is true.
    fn place(&mut self, parent: Node, name: &mut String) -> Result<bool, TooManyClashes> {
        let mut free = self.is_free(parent, name).then(|| name.clone());
        for number in 1.. {
            if let Some(free) = free {
                self.entries.insert(self.node(parent, &free), Kind::File);
                let renamed = free != *name;
                *name = free;
                return Ok(renamed);
            }
            self.clashes += 1;
            if self.clashes > MAX_CLASHES {
                break;
            }
            let (stem, extension) = split_extension(name);
            let candidate = format!("{stem}.{number}{extension}");
            free = self.is_free(parent, &candidate).then_some(candidate);
        }
        Err(TooManyClashes)
    }

    fn is_free(&self, parent: Node, name: &str) -> bool {
        let kind = |name: &str| self.entries.get(&self.node(parent, name));
        let part_of_a_file =
            name.strip_suffix(PART_SUFFIX).is_some_and(|whole| kind(whole) == Some(&Kind::File));
        kind(name).is_none() && kind(&format!("{name}{PART_SUFFIX}")).is_none() && !part_of_a_file
    }
}
