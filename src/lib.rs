//! seedring: a BitTorrent seeder and downloader for Linux.
//!
//! It moves blocks of 16 KiB between disks and peers on io_uring. A payload byte is written into memory once, into a
//! *slab*, by a disk read or a socket receive; it is hashed there, written to disk from there and sent to peers from
//! there, and stays there as cache. What the kernel has in its page cache is sent from where it is. It is a program first; the
//! library is its parts, for tests and benchmarks.
//!
//! ```text
//!            control thread                      each core ("shard"): a thread
//!   cli ─▶ session ─▶ discovery        commands ─▶ ┌───────────────────────────────────┐
//!             ▲  trackers, DHT                     │ shard: tasks     wishes           │
//!             └──────────── reports ◀───────────── │   ring ◀──────▶ shard ◀──▶ swarm  │
//!                                                  │ completions       (no I/O, no clock)
//!                                                  └───────▲───────────────────────────┘
//!                           other cores ◀── bells, letters ┴─▶ the torrent's commons
//! ```
//!
//! # One torrent on many cores
//!
//! Every core has a ring, an arena, a listener of the same port and peers of its own. A peer that we dialled stays with the core
//! that did; one that has connected to us gets a seat where its packets come in, unless another core has much less to do
//! (`shard/seats.rs`), and stays there. What the cores of a torrent share is [`swarm::Commons`]: one atomic state a piece, a
//! log of what is had, from which each core reads what it has to tell its peers, a roster of who is connected, and what is
//! known of addresses to dial (`swarm/known.rs`). Seeding touches nothing of it for a block, and for a HAVE one number, of how many peers of all cores have the
//! piece (`swarm/sightings.rs`).
//! A download costs one exchange a piece: whoever claims it fetches it by its own peers, hashes and writes it. A
//! core that has run out of work says so; the others then show which blocks their pieces lack, it fetches some by its peers
//! and hands them over (`swarm/errands.rs`, `swarm/helping.rs`). What one core has got, the peers of all are told of, of several
//! pieces together when these come fast (`swarm/telling.rs`). So no piece hangs on the peers of one core. Peers are ranked
//! for upload slots over all cores once in ten seconds (`swarm/choking.rs`); a limit of bytes a second is one number that
//! all cores move on (`swarm/limiter.rs`), and no more is asked for than one of downloads lets in soon (`swarm/ahead.rs`).
//! Cores ring each other's bells for news, and write letters for what must arrive (`shard/crew.rs`). Files and connections of
//! all cores have places in one budget of descriptors (`ring/descriptors.rs`): what finds none waits, and strangers give way
//! (`shard/strangers.rs`). A core accepts newcomers, those that other cores hand over among them, at a pace that leaves it to
//! its peers (`shard/listen.rs`). A seed whose link is full, as it was told or has found out (`swarm/uplink.rs`), sends first
//! what nobody has (`swarm/precedence.rs`). What its disk does not give back it offers no more, and tells peers so (`swarm/losses.rs`).
//!
//! # The walk of a block
//!
//! *Up.* A REQUEST is parsed by [`wire::Reader`] in `shard/receive.rs` and queued by [`swarm::Swarm::hear`]. While the
//! connection has room, `shard/send.rs` takes the next requests ([`swarm::Swarm::take_upload`]), has their runs loaded by
//! `shard/load.rs` (from the cache of `shard/memory.rs`, from a read that is under way for another peer, as bytes of the page
//! cache ([`storage::Access::cached`]) if that has them, else by [`storage::Access::read`], with the next runs when few peers are
//! served) and sends many `[head, block]` by one [`ring::Socket::send`]. The page cache is mapped where that pays, for all cores
//! together (`storage/mappings.rs`), and else sent by sendfile.
//!
//! *Down.*
//! 1. [`swarm::Swarm::speak`] picks blocks for a peer (rarest piece first, whole pieces); their run is promised a slab.
//! 2. `shard/receive.rs` lays out a receive: the head of each expected block into scratch memory, its payload into its
//!    place in the slab ([`swarm::Swarm::lend`], [`ring::FillingSlab::lease`], [`ring::Socket::recv`]). What came
//!    otherwise than guessed is moved. What would need more memory than is resident waits a moment while much of it is being
//!    written (`shard/thrift.rs`). Of a block that two peers send, who begins it first has the place; the other's bytes
//!    go aside until it is whole, or it takes the place when it is much faster (`swarm/lateness.rs`).
//! 3. [`swarm::Swarm::complete`] counts the block. The last one of a piece makes a [`swarm::Wish::Hash`] (of a run, when the
//!    piece is too long for memory): `shard/hashing.rs` lets it wait a few milliseconds for company, then [`digest::advance`] moves many pieces' states on.
//! 4. The last run of a piece brings the verdict ([`swarm::Swarm::hashed`]). Good: its runs are written
//!    ([`storage::Access::write`]), then [`swarm::Swarm::written`] makes it ours, and peers are told. Bad: who alone
//!    sent it is banned; of several, it is remembered who sent which block with what fingerprint
//!    ([`swarm::Swarm::fingerprinted`]). All fetch it once more, each block from another than before, and where two differ a
//!    third decides (`swarm/votes.rs`); then those who agree with each other do (`swarm/camps.rs`), or one alone
//!    (`swarm/alone.rs`). When it comes out right, who sent another block is banned. (Runs of pieces too long for memory are
//!    written before the verdict, and again if it is bad. What of them belongs to a file that was left out and is there waits
//!    for it in a file without a name: `storage/aside.rs`.)
//! 5. A file whose pieces are all there is synced and gets its own name ([`storage::Access::finish`]).
//!
//! # What can be seen
//!
//! A core counts in plain numbers of its own ([`ring::counters`], `shard/snapshot.rs`). Once a second, if somebody
//! asked for it, it sends them all as a [`shard::Snapshot`]; the control thread keeps the last of each core on an
//! [`observe::Board`], and an [`api::Server`] makes pages of it.
//!
//! # The rooms
//!
//! A room uses only rooms below it; `tests/tidy.rs` holds them to it. Those of the ground floor do no I/O, read no clock
//! and start no task.
//!
//! | floor | room | what lives there |
//! |---|---|---|
//! | 5 | [`cli`] | the commands a person types; progress; exit codes |
//! | 4 | [`load`] | a load generator for any client: many connections from many addresses, every block compared |
//! | 4 | [`api`] | HTTP: the pages that Prometheus reads |
//! | 4 | [`observe`] | counters, rates and peers of all cores as Prometheus' text |
//! | 3 | [`session`] | one torrent from the magnet link, or the check of what is there, to the goodbye; threads and mailboxes |
//! | 3 | [`discovery`] | who is out there: trackers over HTTP, HTTPS and UDP, the DHT, the local network, and a small tracker of our own |
//! | 2 | [`shard`] | one core: connections, and the tasks that turn the swarm's wishes into ring operations |
//! | 2 | [`storage`] | pieces on disk: files beneath the download folder, runs, checking |
//! | 1 | [`ring`] | the only door to io_uring: runtime, slab arena, sockets, files; and what a signal does in its handler. All `unsafe` but that of `digest` |
//! | 0 | [`swarm`] | what to ask of whom and whom to serve: picker, requests, choker, endgame, blame |
//! | 0 | [`wire`] | bytes ↔ values: handshake, messages and what extensions say in them, encryption, gzip |
//! | 0 | [`digest`] | SHA-1 and SHA-256 of many streams at once: 16 lanes of AVX-512, 8 of AVX2, 4 of SHA instructions, or one by one; CRC-32C of a few bytes |
//! | 0 | [`metainfo`] | torrent files and magnet links, checked once; how pieces lie across files |
//! | 0 | [`bencode`] | strict reader of spans, canonical writer |
//!
//! # What is absent, and stays so
//!
//! * No lock for a block but where cores help each other (in the endgame, in order, and while peers have few pieces): what they share
//!   else are atomics ([`swarm::PieceMap`]) and mailboxes. Locks are for what is rarer: who is connected, addresses, blame, the
//!   ranking for slots, blocks that one core fetches for another, files that are mapped anew.
//! * No payload byte is copied in user space in the steady state, but for what is sent to peers that insist on encryption,
//!   what comes in another order than it was asked for, what one core fetches for another, and what goes into files left out.
//! * No byte that is sent from the page cache is touched by our own code, only by the kernel ([`ring::Cached`]).
//! * No operation on a slab that can wait for a peer: sockets are waited for with empty hands ([`ring::Socket`]). Sends
//!   without a copy ([`ring::ZeroCopy`]) do hold slabs until the peer has acknowledged them: a quarter of them at most.
//! * No path of a torrent is opened but beneath the download folder, through no link ([`storage::Folder`]).
//! * No `select!` around an operation on a socket: a connection is ended by shutting it down. An operation that is left
//!   behind keeps its memory until the kernel has answered.
//!
//! A panic is a bug of ours, and ends the program with a sentence, on whichever core and in whichever task it is
//! (`ring/panics.rs`); whatever peers, trackers, torrents and disks do is an error with a name.
//!
//! # Where to begin reading
//!
//! For a message: `wire/message.rs`, then `swarm/hear.rs` and `swarm/speak.rs`. For what is asked of whom:
//! `swarm/fetch.rs`; for where its bytes go, `swarm/homes.rs`. For a connection's life: `shard/connection.rs`. For files:
//! `storage/access.rs`. For a command: `cli`.

pub mod api;
pub mod bencode;
pub mod cli;
pub mod digest;
pub mod discovery;
pub mod load;
pub mod metainfo;
pub mod observe;
pub mod ring;
pub mod session;
pub mod shard;
pub mod storage;
pub mod swarm;
pub mod wire;
