//! What a person may choose: which files, how fast, whom to serve and whom not, with the whole program.

use crate::common;

use crate::common::metrics::Samples;
use crate::common::payload::{BLOCK, noise, one_file, torrent_of};
use crate::common::peer::{
    BITFIELD, INTERESTED, PIECE, REQUEST, Request, UNCHOKE, accept, bitfield, connect, hear, hear_kind,
    message,
};
use crate::common::program::{Program, client};
use seedring::metainfo::Torrent;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HAVE: u8 = 4;

/// Files of these lengths in a folder, and their torrent.
fn files(root: &Path, lengths: &[usize], piece_length: u32) -> (PathBuf, Torrent) {
    let data = root.join("payload");
    fs::create_dir(&data).unwrap();
    for (number, len) in lengths.iter().enumerate() {
        fs::write(data.join(format!("{number}")), noise(*len)).unwrap();
    }
    torrent_of(&data, piece_length)
}

/// The order in which a download with these options asks a peer for its pieces, of a block each. The peer has all of them.
fn order(torrent: (&Path, &Torrent), into: &Path, payload: &[u8], options: &[&str]) -> Vec<u32> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap().to_string();
    let options = [&["--peer", peer.as_str()], options].concat();
    let mut leech = Program::start(&mut client("download", torrent.0, into, &options));
    let torrent = torrent.1;
    let mut stream = accept(&listener, torrent, [1; 20]).unwrap();
    let pieces = torrent.layout.piece_count();
    stream.write_all(&[bitfield(torrent, pieces), message(UNCHOKE, &[], &[])].concat()).unwrap();
    let asked = (0..pieces).map(|_| {
        let request = Request::hear(&mut stream).unwrap();
        stream.write_all(&request.answer(torrent, payload)).unwrap();
        request.piece
    });
    let asked = asked.collect();
    leech.until("completed");
    assert!(leech.wait().success());
    asked
}

#[test]
fn in_order_means_from_the_start_to_the_end() {
    let len = 40 * BLOCK as usize;
    let (folder, path, torrent) = one_file(len, BLOCK);
    let into = folder.path().join("into");
    let asked = order((&path, &torrent), &into, &noise(len), &["--sequential"]);
    // Players look at the end of a file for its index.
    assert_eq!(asked, [39].into_iter().chain(0..39).collect::<Vec<u32>>());
    assert!(fs::read(into.join("payload")).unwrap() == noise(len));
}

#[test]
fn files_come_in_the_order_of_their_priorities() {
    let folder = tempfile::tempdir().unwrap();
    let len = 12 * BLOCK as usize;
    let (path, torrent) = files(folder.path(), &[len; 4], BLOCK);
    let into = folder.path().join("into");
    let options = ["--priority", "low:0,high:2-3", "--priority", "normal:3"];
    let asked = order((&path, &torrent), &into, &noise(len).repeat(4), &options);
    let files: Vec<u32> = asked.iter().map(|piece| piece / 12).collect();
    let in_turn: Vec<Vec<u32>> = files.chunks(12).map(<[u32]>::to_vec).collect();
    assert_eq!((&in_turn[0], &in_turn[3]), (&vec![2; 12], &vec![0; 12]), "{files:?}");
    assert_eq!(files[12..36].iter().filter(|file| **file == 1).count(), 12, "{files:?}");
}

#[test]
fn only_the_files_that_are_selected_are_made() {
    let folder = tempfile::tempdir().unwrap();
    // File 1 ends within the piece that file 2 begins in; file 4 shares nothing.
    let (torrent, _) = files(folder.path(), &[5 * 32_768, 3 * 32_768, 40_000, 200_000, 500_000], 32_768);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &[]));
    let addr = seeder.address().to_string();
    let into = folder.path().join("into");
    let more = ["--select", "0,2", "--peer", &addr, "--cores", "2"];
    let mut leech = Program::start(&mut client("download", &torrent, &into, &more));
    let done = leech.until("completed");
    assert!(leech.wait().success());
    assert!(done["left"] == 0 && done["skipped"].as_u64().unwrap() >= 600_000, "{done}");
    let there = |name: &str| fs::read(into.join("payload").join(name)).ok();
    assert!(there("0").unwrap() == noise(5 * 32_768) && there("2").unwrap() == noise(40_000));
    assert_eq!(
        [there("1"), there("1.part"), there("3"), there("4"), there("4.part")],
        [None, None, None, None, None]
    );
    let shared = fs::metadata(into.join("payload/3.part")).unwrap();
    assert!(shared.len() < 32_768, "only what it shares with file 2: {}", shared.len());
    // What was left out can be had later; what is there is kept.
    let mut rest = Program::start(&mut client("download", &torrent, &into, &["--peer", &addr]));
    let done = rest.until("completed");
    assert!(rest.wait().success());
    assert_eq!(done["skipped"], 0);
    assert!(done["downloaded"].as_u64().unwrap() < 900_000, "{done}");
    assert!(there("3").unwrap() == noise(200_000) && there("4").unwrap() == noise(500_000));
}

/// A file that is whole, or somebody else's, is still there when its neighbours, with which it shares pieces, are fetched without it.
#[test]
fn what_is_left_out_keeps_its_name() {
    const PIECE: usize = 32_768;
    let folder = tempfile::tempdir().unwrap();
    let lengths = [PIECE + 100, 4 * PIECE, 2 * PIECE, 1000, PIECE];
    let (torrent, _) = files(folder.path(), &lengths, PIECE as u32);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &[]));
    let addr = seeder.address().to_string();
    let into = folder.path().join("into");
    let path = |name: &str| into.join("payload").join(name);
    fs::create_dir_all(path("")).unwrap();
    let whole = [1, 3];
    whole.iter().for_each(|n| fs::write(path(&n.to_string()), noise(lengths[*n])).unwrap());
    let select = |which| {
        let more = ["--select", which, "--peer", &addr, "--cores", "2"];
        Program::start(&mut client("download", &torrent, &into, &more))
    };
    let mut leech = select("0");
    leech.until("completed");
    assert!(leech.wait().success());
    let mut leech = select("4");
    leech.until("completed");
    assert!(leech.wait().success());
    for n in [0, 1, 3, 4] {
        let name = n.to_string();
        assert!(fs::read(path(&name)).unwrap() == noise(lengths[n]), "{n}");
        assert!(!path(&(name + ".part")).exists(), "{n}");
    }
    // Nothing of this one is right, though it is as long.
    for (foreign, beside) in [("1", "0"), ("0", "1")] {
        fs::remove_file(path(beside)).unwrap();
        let len = fs::metadata(path(foreign)).unwrap().len() as usize;
        fs::write(path(foreign), vec![7; len]).unwrap();
        let mut leech = select(beside);
        assert!(!leech.wait().success());
        assert!(fs::read(path(foreign)).unwrap() == vec![7; len]);
        fs::write(path(beside), noise(lengths[beside.parse::<usize>().unwrap()])).unwrap();
    }
}

/// Long pieces are written before they are known to be right: not into a file that was there.
#[test]
fn a_liar_spoils_nothing_of_what_is_left_out() {
    const PIECE: usize = 8 << 20;
    let folder = tempfile::tempdir().unwrap();
    let lengths = [PIECE + PIECE / 2, PIECE / 2];
    let (path, torrent) = files(folder.path(), &lengths, PIECE as u32);
    let into = folder.path().join("into");
    let left_out = into.join("payload/0");
    fs::create_dir_all(into.join("payload")).unwrap();
    // Its end is not right, and shares a piece with what is wanted.
    let mut there = noise(lengths[0]);
    there[PIECE + 1000..].fill(7);
    fs::write(&left_out, &there).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = listener.local_addr().unwrap().to_string();
    let options = ["--select", "1", "--cores", "1", "--metrics", "127.0.0.1:0", "--peer"];
    let download = |peer| client("download", &path, &into, &[&options[..], &[peer]].concat());
    let mut leech = Program::start(&mut download(&peer));
    let figures = leech.metrics_address();
    let mut stream = accept(&listener, &torrent, [1; 20]).unwrap();
    stream.write_all(&[bitfield(&torrent, 2), message(UNCHOKE, &[], &[])].concat()).unwrap();
    let zeros = vec![0; 2 * PIECE];
    for _ in 0..PIECE / 2 / BLOCK as usize {
        let request = Request::hear(&mut stream).unwrap();
        assert_eq!(request.piece, 1);
        stream.write_all(&request.answer(&torrent, &zeros)).unwrap();
    }
    common::until(|| {
        let written = Samples::fetch(figures).sum("seedring_disk_written_bytes_total", &[]);
        if written >= PIECE as u64 / 4 { Ok(()) } else { Err(format!("{written} bytes")) }
    });
    assert!(fs::read(&left_out).unwrap() == there, "what nobody knows to be right");
    leech.interrupt();
    leech.wait();
    assert!(fs::read(&left_out).unwrap() == there);

    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &[]));
    let mut leech = Program::start(&mut download(&seeder.address().to_string()));
    leech.until("completed");
    assert!(leech.wait().success());
    let names: Vec<_> = fs::read_dir(into.join("payload")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    for (name, len) in ["0", "1"].iter().zip(lengths) {
        assert!(fs::read(into.join("payload").join(name)).unwrap() == noise(len), "{name}");
    }
}

#[test]
fn what_is_left_out_has_its_name_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, _) = files(folder.path(), &[BLOCK as usize + 100, 3 * BLOCK as usize], BLOCK);
    // All that it lacks, for want of file 0, is wanted.
    fs::remove_file(folder.path().join("payload/0")).unwrap();
    let mut leech = Program::start(&mut client("download", &torrent, folder.path(), &["--select", "0"]));
    leech.until("listening");
    let names: Vec<_> =
        fs::read_dir(folder.path().join("payload")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["1"]);
}

/// Two would write into the same parts.
#[test]
fn one_download_at_a_time_writes_under_a_name_in_a_folder() {
    let (folder, path, _) = one_file(BLOCK as usize, BLOCK);
    // Two torrents of the same name, one of another.
    let other = tempfile::tempdir().unwrap();
    let (same, _) = files(other.path(), &[1000], BLOCK);
    let others = other.path().join("others");
    fs::write(&others, noise(1000)).unwrap();
    let (others, _) = torrent_of(&others, BLOCK);
    let into = folder.path().join("into");
    let mut first = Program::start(&mut client("download", &path, &into, &[]));
    first.until("listening");
    for second in [&path, &same] {
        let second =
            client("download", second, &into, &[]).stderr(std::process::Stdio::piped()).output().unwrap();
        let said = String::from_utf8(second.stderr).unwrap();
        assert!(!second.status.success() && said.contains("another seedring is at work on it"), "{said}");
    }
    Program::start(&mut client("download", &others, &into, &[])).until("listening");
    // It ends as one that is killed does.
    drop(first);
    Program::start(&mut client("download", &path, &into, &[])).until("listening");
}

/// Also when the one has ended.
#[test]
fn what_one_torrent_has_fetched_is_not_written_over_for_another_of_its_name() {
    let (folder, path, _) = one_file(8 * BLOCK as usize, BLOCK);
    let content = noise(8 * BLOCK as usize);
    let other = tempfile::tempdir().unwrap();
    let unlike: Vec<u8> = content.iter().map(|byte| !byte).collect();
    fs::write(other.path().join("payload"), &unlike).unwrap();
    let (others, _) = torrent_of(&other.path().join("payload"), BLOCK);
    let into = folder.path().join("into");
    let mut seeders = [(&path, &folder), (&others, &other)]
        .map(|(torrent, there)| Program::start(&mut client("seed", torrent, there.path(), &[])));
    let addrs = seeders.each_mut().map(|seeder| seeder.address().to_string());
    let download = |torrent, seeder: usize| {
        let mut leech = client("download", torrent, &into, &["--peer", &addrs[seeder]]);
        leech.stderr(std::process::Stdio::piped()).output().unwrap()
    };
    assert!(download(&path, 0).status.success());
    let refused = download(&others, 1);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("it is of torrent") && said.contains("move it away"), "{said}");
    assert!(fs::read(into.join("payload")).unwrap() == content);
    fs::remove_file(into.join("payload")).unwrap();
    assert!(download(&others, 1).status.success());
    assert!(fs::read(into.join("payload")).unwrap() == unlike);
}

/// How long two downloads of so many bytes took, with these options for the seed and for them.
fn time(bytes: usize, seed: &[&str], leech: &[&str]) -> Duration {
    let (folder, torrent, _) = one_file(bytes, 256 * 1024);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), seed));
    let addr = seeder.address().to_string();
    let begun = Instant::now();
    let into = ["a", "b"].map(|name| folder.path().join(name));
    // They do not learn of each other: all comes from the seed.
    let options = [&["--peer", addr.as_str(), "--no-pex"][..], leech].concat();
    let mut leeches =
        into.clone().map(|into| Program::start(&mut client("download", &torrent, &into, &options)));
    for (leech, into) in leeches.iter_mut().zip(into) {
        leech.until("completed");
        assert!(leech.wait().success());
        assert!(fs::read(into.join("payload")).unwrap() == noise(bytes));
    }
    begun.elapsed()
}

#[test]
fn limits_hold_on_several_cores() {
    // The least that the laws of the limit allow; how much longer it takes is the machine's affair.
    let least = |bytes: f64, limit: f64| Duration::from_secs_f64(bytes / limit / 1.05 - 0.05);
    let size = 3 << 20;
    let up = time(size, &["--upload-limit", "2M", "--cores", "4"], &[]);
    assert!(up >= least(6.0, 2.0), "two downloads of 3 MiB at 2 MiB/s took {up:?}");
    let down = time(size, &[], &["--download-limit", "1M", "--cores", "4"]);
    assert!(down >= least(3.0, 1.0), "a download of 3 MiB at 1 MiB/s took {down:?}");
}

/// The machine may be slow for a while, but not in each of six seconds.
#[test]
fn what_a_limit_lets_out_is_made_use_of() {
    const LIMIT: f64 = 4.0 * 1024.0 * 1024.0;
    let (folder, torrent, _) = one_file(14 << 20, 256 * 1024);
    let options = ["--upload-limit", "4M", "--cores", "4"];
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &options));
    let addr = seeder.address().to_string();
    let options = ["--peer", addr.as_str(), "--no-pex"];
    let mut leeches = ["a", "b"]
        .map(|name| Program::start(&mut client("download", &torrent, &folder.path().join(name), &options)));
    let mut sent: Vec<(Instant, f64)> = Vec::new();
    while sent.last().is_none_or(|(_, bytes)| *bytes < 27.0 * 1024.0 * 1024.0) {
        let bytes = seeder.until("progress")["uploaded"].as_f64().unwrap();
        sent.push((Instant::now(), bytes));
    }
    let rates =
        sent.windows(3).map(|three| (three[2].1 - three[0].1) / (three[2].0 - three[0].0).as_secs_f64());
    let best = rates.fold(0.0, f64::max);
    assert!(best >= 0.95 * LIMIT, "{best} bytes a second of {LIMIT}: {sent:?}");
    leeches.iter_mut().for_each(|leech| assert!(leech.wait().success()));
}

/// Who sends what nobody has asked for gets only what a limit leaves over, and not for long.
#[test]
fn a_download_limit_is_for_what_was_asked_for() {
    let (folder, path, torrent) = one_file(3 << 20, 64 * 1024);
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &[]));
    let peer = seeder.address().to_string();
    let options = ["--peer", &peer, "--download-limit", "600K", "--cores", "2", "--no-pex"];
    let mut leech = Program::start(&mut client("download", &path, &folder.path().join("into"), &options));
    let addr = leech.address();
    for name in 1..=4 {
        let (torrent, block) = (torrent.clone(), message(PIECE, &[0, 0], &vec![name; BLOCK as usize]));
        // Until there is nobody any more; whoever is sent away comes back.
        std::thread::spawn(move || {
            while let Ok(mut stream) = connect(addr, &torrent, [name; 20]) {
                while stream.write_all(&block).is_ok() {}
            }
        });
    }
    let wasted = leech.until("completed")["wasted"].as_f64().expect("a number");
    assert!(leech.wait().success());
    assert!(wasted <= (3 << 20) as f64 / 5.0, "{wasted} bytes in vain");
}

#[test]
fn at_a_low_limit_blocks_come_in_parts_and_whole() {
    let (folder, torrent, parsed) = one_file(100_000, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--upload-limit", "40K"]));
    let mut peer = connect(seeder.address(), &parsed, [1; 20]).unwrap();
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    for piece in 0..3 {
        peer.write_all(&message(REQUEST, &[piece, 0, BLOCK], &[])).unwrap();
    }
    for piece in 0..3 {
        let body = hear_kind(&mut peer, PIECE);
        let at = (piece * BLOCK) as usize;
        assert!(body[8..] == noise(100_000)[at..at + BLOCK as usize], "piece {piece}");
    }
}

/// Of short blocks the most are heads, and who only wants the metadata takes no blocks.
#[test]
fn an_upload_limit_lets_out_no_more_by_short_blocks_nor_by_metadata() {
    const LIMIT: f64 = 20.0 * 1024.0;
    const BLOCKS: usize = 4000;
    // 82 KB of hashes.
    let (folder, path, torrent) = one_file(4096 * BLOCK as usize, BLOCK);
    let options = ["--upload-limit", "20K", "--cores", "1"];
    let mut seeder = Program::start(&mut client("seed", &path, folder.path(), &options));
    let addr = seeder.address();
    let mut peer = connect(addr, &torrent, [1; 20]).unwrap();
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    let ask = |peer: &mut TcpStream| peer.write_all(&message(REQUEST, &[0, 0, 1], &[]).repeat(500)).unwrap();
    let begun = Instant::now();
    ask(&mut peer);
    for block in 0..BLOCKS {
        if block % 500 == 0 && block + 500 < BLOCKS {
            ask(&mut peer);
        }
        hear_kind(&mut peer, PIECE);
    }
    let (took, least) = (begun.elapsed(), 14.0 * BLOCKS as f64 / LIMIT / 1.05 - 0.2);
    assert!(took >= Duration::from_secs_f64(least), "{took:?}, {least} s at the least");
    drop(peer);
    let begun = Instant::now();
    let link = format!("magnet:?xt=urn:btih:{}&x.pe={addr}", torrent.info_hash);
    let mut show = common::program::seedring();
    let shown = show.args(["show", &link, "--no-trackers", "--no-dht", "--no-lsd"]).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let (took, least) = (begun.elapsed(), 4096.0 * 20.0 / LIMIT / 1.05 - 0.9);
    assert!(took >= Duration::from_secs_f64(least), "{took:?}, {least} s at the least");
}

#[test]
fn a_super_seed_shows_little_and_serves_only_that() {
    let (folder, torrent, parsed) = one_file(20 * BLOCK as usize, BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--super-seed"]));
    let mut peer = connect(seeder.address(), &parsed, [1; 20]).unwrap();
    let shown = [hear(&mut peer), hear(&mut peer)];
    assert!(shown.iter().all(|(id, _)| *id == HAVE && *id != BITFIELD), "{shown:?}");
    peer.write_all(&message(INTERESTED, &[], &[])).unwrap();
    hear_kind(&mut peer, UNCHOKE);
    let piece = u32::from_be_bytes(*shown[0].1.first_chunk().unwrap());
    let other = (0..20u32).find(|other| shown.iter().all(|(_, body)| body[..] != other.to_be_bytes()));
    peer.write_all(&message(REQUEST, &[other.unwrap(), 0, BLOCK], &[])).unwrap();
    peer.write_all(&message(REQUEST, &[piece, 0, BLOCK], &[])).unwrap();
    assert_eq!(hear_kind(&mut peer, PIECE)[..4], piece.to_be_bytes());
}

/// It learns what a peer has got by what the peer says: the peer must tell it, though it has shown that very piece.
#[test]
fn a_super_seed_gives_a_peer_that_is_alone_everything_by_and_by() {
    let len = 100 * BLOCK as usize;
    let (folder, torrent, _) = one_file(len, BLOCK);
    for cores in ["1", "2"] {
        let options = ["--super-seed", "--cores", cores];
        let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &options));
        let seed = seeder.address().to_string();
        let into = folder.path().join(cores);
        let mut leech = Program::start(&mut client("download", &torrent, &into, &["--peer", &seed]));
        leech.until("completed");
        assert!(fs::read(into.join("payload")).unwrap() == noise(len));
    }
}

#[test]
fn a_super_seed_gives_a_part_to_who_wants_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (torrent, _) = files(folder.path(), &[BLOCK as usize, 60 * BLOCK as usize], BLOCK);
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &["--super-seed"]));
    let seed = seeder.address().to_string();
    let into = folder.path().join("into");
    let options = ["--select", "0", "--peer", &seed];
    let mut leech = Program::start(&mut client("download", &torrent, &into, &options));
    leech.until("completed");
    assert!(fs::read(into.join("payload/0")).unwrap() == noise(BLOCK as usize));
}

#[test]
fn what_a_super_seed_gives_once_two_leeches_trade() {
    let len = 200 * BLOCK as usize;
    let (folder, torrent, _) = one_file(len, BLOCK);
    let options = ["--super-seed", "--cores", "2"];
    let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &options));
    let seed = seeder.address().to_string();
    let into = ["a", "b"].map(|name| folder.path().join(name));
    let options = ["--seed", "--peer", &seed];
    let mut one = Program::start(&mut client("download", &torrent, &into[0], &options));
    let addr = one.address().to_string();
    let options = [&options[..], &["--peer", &addr]].concat();
    let mut two = Program::start(&mut client("download", &torrent, &into[1], &options));
    let mut traded = 0;
    for (leech, into) in [&mut one, &mut two].into_iter().zip(into) {
        leech.until("completed");
        assert!(fs::read(into.join("payload")).unwrap() == noise(len));
    }
    // Until both have told of all that they have sent.
    for leech in [&mut one, &mut two] {
        leech.until("progress");
        traded += leech.until("progress")["uploaded"].as_u64().unwrap();
    }
    assert!(traded >= len as u64 / 2, "they gave each other {traded} bytes of {len}");
}

#[test]
fn filtered_hosts_get_no_word() {
    let (folder, torrent, parsed) = one_file(1000, BLOCK);
    let list = folder.path().join("list");
    for (text, welcome) in [("127.0.0.0/8", false), ("loop:127.0.0.2-127.0.0.9", true)] {
        fs::write(&list, text).unwrap();
        let options = ["--ip-filter", list.to_str().unwrap()];
        let mut seeder = Program::start(&mut client("seed", &torrent, folder.path(), &options));
        let addr = seeder.address();
        if welcome {
            connect(addr, &parsed, [1; 20]).unwrap();
        } else {
            let mut peer = TcpStream::connect(addr).unwrap();
            let _ = peer.write_all(&common::peer::handshake(&parsed, [1; 20]));
            assert!(!matches!(peer.read(&mut [0; 68]), Ok(1..)), "closed without a word");
        }
    }
}
