//! What attackers do.

use crate::common::peer::{
    BITFIELD, INTERESTED, PIECE, REQUEST, Request, UNCHOKE, bitfield, connect, handshake, hear_kind, message,
    try_hear,
};
use crate::scene::{Fate, Scene};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

fn id(number: usize) -> [u8; 20] {
    let mut id = *b"-XX0001-hostile-0000";
    id[16..].copy_from_slice(&(number as u32).to_be_bytes());
    id
}

/// A connection of somebody who has never been there: one that comes again may be closed for that alone.
pub(crate) fn dial(scene: &Scene) -> io::Result<TcpStream> {
    static COUNT: AtomicUsize = AtomicUsize::new(1000);
    connect(scene.addr, &scene.torrent, id(COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A connection of somebody new who speaks these extensions.
pub(crate) fn dial_as(scene: &Scene, reserved: [u8; 8]) -> io::Result<TcpStream> {
    static COUNT: AtomicUsize = AtomicUsize::new(1 << 20);
    let mut ours = handshake(&scene.torrent, id(COUNT.fetch_add(1, Ordering::Relaxed)));
    ours[20..28].copy_from_slice(&reserved);
    let mut stream = TcpStream::connect(scene.addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(8)))?;
    stream.write_all(&ours)?;
    stream.read_exact(&mut [0; 68])?;
    Ok(stream)
}

/// Reads on until the program closes.
///
/// # Errors
/// When it does not for seconds.
pub(crate) fn wait_closed(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(why) => return Err(why),
        }
    }
}

/// Whether an error of a socket means that the other side has closed it.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected | UnexpectedEof)
}

/// Writes the same bytes over and over, and reads nothing, until the scene is over or the program closes.
pub(crate) fn flood(scene: &Scene, mut stream: TcpStream, bytes: &[u8]) -> io::Result<Fate> {
    stream.set_write_timeout(Some(Duration::from_millis(100)))?;
    let mut at = 0;
    let mut begun = false;
    while !scene.is_over() {
        match stream.write(&bytes[at..]) {
            Ok(written) => at = (at + written) % bytes.len(),
            Err(error) if is_end(&error) => return Ok(Fate::Closed),
            // The program has enough of it for now.
            Err(_) => {}
        }
        if !std::mem::replace(&mut begun, true) {
            scene.begun();
        }
    }
    stream.set_nonblocking(true)?;
    match wait_closed(&mut stream) {
        Ok(()) => Ok(Fate::Closed),
        Err(_) => Ok(Fate::Kept),
    }
}

/// A flood on a new connection, after some opening words.
pub(crate) fn flood_with(scene: &Scene, opening: &[u8], bytes: &[u8]) -> io::Result<Fate> {
    let mut stream = dial(scene)?;
    stream.write_all(opening)?;
    flood(scene, stream, bytes)
}

/// Says each of these on a new connection, behind a handshake, and sees to it that the connection is closed for it.
pub(crate) fn offend(scene: &Scene, offences: &[(&str, Vec<u8>)]) -> io::Result<Fate> {
    offend_by(scene, dial, offences)
}

/// The same on connections that are made so.
pub(crate) fn offend_by(
    scene: &Scene,
    dial: impl Fn(&Scene) -> io::Result<TcpStream>,
    offences: &[(&str, Vec<u8>)],
) -> io::Result<Fate> {
    for (what, bytes) in offences {
        let mut stream = dial(scene)?;
        // It may be closed before all is sent.
        let _ = stream.write_all(bytes);
        wait_closed(&mut stream).unwrap_or_else(|why| panic!("not closed for {what}: {why}"));
        if scene.is_over() {
            return Ok(Fate::Closed);
        }
    }
    scene.begun();
    Ok(Fate::Closed)
}

/// A connection that is unchoked.
pub(crate) fn unchoked(scene: &Scene) -> io::Result<TcpStream> {
    let mut stream = dial(scene)?;
    stream.write_all(&message(INTERESTED, &[], &[]))?;
    hear_kind(&mut stream, UNCHOKE);
    Ok(stream)
}

/// Waits until the scene is over, which begins when strangers are no longer excused for their silence.
pub(crate) fn hold(scene: &Scene) {
    thread::sleep(Duration::from_millis(1200));
    scene.begun();
    while !scene.is_over() {
        thread::sleep(Duration::from_millis(20));
    }
}

/// Connects and says nothing, from many sockets.
pub(crate) fn say_nothing(scene: &Scene, _: usize) -> io::Result<Fate> {
    let silent: Vec<TcpStream> =
        (0..150).map(|_| TcpStream::connect(scene.addr)).collect::<io::Result<_>>()?;
    hold(scene);
    drop(silent);
    Ok(Fate::Kept)
}

/// Connects and goes, as fast as it can: by turns in order, and with a reset in the middle of a handshake.
pub(crate) fn come_and_go(scene: &Scene, number: usize) -> io::Result<Fate> {
    for turn in 0..200 {
        let mut stream = TcpStream::connect(scene.addr)?;
        if turn % 2 == 0 {
            stream.write_all(&handshake(&scene.torrent, id(number))[..turn % 68])?;
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
        }
    }
    scene.begun();
    Ok(Fate::Kept)
}

/// Says its handshake a byte at a time, so slowly that it never ends.
pub(crate) fn drip_handshake(scene: &Scene, number: usize) -> io::Result<Fate> {
    let mut stream = TcpStream::connect(scene.addr)?;
    stream.set_nodelay(true)?;
    for (at, byte) in handshake(&scene.torrent, id(number)).iter().enumerate() {
        match stream.write_all(&[*byte]) {
            Err(error) if is_end(&error) => return Ok(Fate::Closed),
            other => other?,
        }
        if at == 3 {
            scene.begun();
        }
        thread::sleep(Duration::from_millis(300));
    }
    Ok(Fate::Kept)
}

/// Asks for as much as it may, and reads a byte now and then.
pub(crate) fn read_slowly(scene: &Scene, _: usize) -> io::Result<Fate> {
    let mut stream = unchoked(scene)?;
    for piece in 0..scene.torrent.layout.piece_count() - 1 {
        stream.write_all(&message(REQUEST, &[piece, 0, 16 * 1024], &[]))?;
    }
    scene.begun();
    while !scene.is_over() {
        stream.read_exact(&mut [0])?;
        thread::sleep(Duration::from_millis(5));
    }
    Ok(Fate::Kept)
}

/// Says good messages a byte at a time, and gets its answers.
pub(crate) fn write_slowly(scene: &Scene, number: usize) -> io::Result<Fate> {
    let mut stream = unchoked(scene)?;
    while !scene.is_over() {
        for byte in message(REQUEST, &[number as u32, 0, 100], &[]) {
            stream.write_all(&[byte])?;
            thread::sleep(Duration::from_millis(2));
        }
        let body = hear_kind(&mut stream, PIECE);
        let at = number * scene.torrent.layout.piece_length() as usize;
        assert_eq!(body[8..], scene.payload[at..at + 100]);
        scene.begun();
    }
    Ok(Fate::Kept)
}

/// Asks for the last bytes of pieces, which are there.
pub(crate) fn ask_at_the_edge(scene: &Scene, _: usize) -> io::Result<Fate> {
    let layout = &scene.torrent.layout;
    let mut stream = unchoked(scene)?;
    while !scene.is_over() {
        for piece in layout.pieces().rev().take(3) {
            let last = layout.piece_len(piece) - 1;
            stream.write_all(&message(REQUEST, &[piece.get(), last, 1], &[]))?;
            let body = hear_kind(&mut stream, PIECE);
            let at = layout.piece_start(piece) as usize + last as usize;
            assert_eq!(body[8..], scene.payload[at..=at]);
        }
        scene.begun();
    }
    Ok(Fate::Kept)
}

/// Claims to have everything, and answers each request by what `answer` makes of it. Always the same one, so that it can
/// be known again.
fn give(scene: &Scene, number: usize, answer: impl Fn(Request) -> Vec<u8>) -> io::Result<Fate> {
    give_over(scene, connect(scene.addr, &scene.torrent, id(number))?, answer)
}

/// The same on a connection that is made.
fn give_over(scene: &Scene, mut stream: TcpStream, answer: impl Fn(Request) -> Vec<u8>) -> io::Result<Fate> {
    let all = bitfield(&scene.torrent, scene.torrent.layout.piece_count());
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let mut said = stream.write_all(&[all, message(UNCHOKE, &[], &[])].concat());
    scene.begun();
    while !scene.is_over() {
        said = said.and_then(|()| {
            let (kind, body) = try_hear(&mut stream)?;
            match Request::read(kind, &body) {
                Some(request) => stream.write_all(&answer(request)),
                None => Ok(()),
            }
        });
        match said {
            Err(error) if is_end(&error) => {
                // Whoever is banned is not to take all of the processor by coming again.
                thread::sleep(Duration::from_millis(20));
                return Ok(Fate::Closed);
            }
            // Nothing is asked; between messages this loses none.
            _ => said = Ok(()),
        }
    }
    Ok(Fate::Kept)
}

/// Sends other bytes than those of the torrent.
pub(crate) fn give_rubbish(scene: &Scene, number: usize) -> io::Result<Fate> {
    give(scene, number, |request| {
        let mut answer = request.answer(&scene.torrent, &scene.payload);
        answer[20] ^= 1;
        answer
    })
}

/// The same, under a new name each time it comes again.
pub(crate) fn give_rubbish_under_new_names(scene: &Scene, _: usize) -> io::Result<Fate> {
    give_over(scene, dial(scene)?, |request| {
        let mut answer = request.answer(&scene.torrent, &scene.payload);
        answer[20] ^= 1;
        answer
    })
}

/// Sends half of what was asked for, as if that were all.
pub(crate) fn give_half(scene: &Scene, number: usize) -> io::Result<Fate> {
    give(scene, number, |request| message(PIECE, &[request.piece, request.begin], &scene.payload[..8 * 1024]))
}

/// Sends what was not asked for in the place of what was: a lot, for whoever does so is not asked for more.
pub(crate) fn give_another(scene: &Scene, number: usize) -> io::Result<Fate> {
    give(scene, number, |request| {
        let other = (request.piece + 1) % (scene.torrent.layout.piece_count() - 1);
        message(PIECE, &[other, request.begin], &[0xaa; 16 * 1024]).repeat(400)
    })
}

/// Chokes as often as it is asked, and unchokes at once. It does not speak the fast extension.
pub(crate) fn choke_when_asked(scene: &Scene, number: usize) -> io::Result<Fate> {
    give(scene, number, |_| [message(0, &[], &[]), message(UNCHOKE, &[], &[])].concat())
}

/// A bitfield of so many bytes, with all bits set.
pub(crate) fn bits(len: usize) -> Vec<u8> {
    message(BITFIELD, &[], &vec![0xff; len])
}
