//! Panics on a core.

use super::*;
use std::future::pending;

async fn fail(words: &'static str) {
    panic!("{words}");
}

/// Panics when it is dropped.
struct Squib;

impl Drop for Squib {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

fn said<T>(main: impl AsyncFnOnce(Core) -> T) -> String {
    match run(Config::new(4 * STRIDE), main) {
        Err(CoreError::Panicked(said)) => said,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("no panic is noticed"),
    }
}

#[test]
fn a_task_that_panics_ends_its_core() {
    let words = said(async |core| {
        let slab = core.arena.take().unwrap();
        spawn(async move {
            let _slab = slab;
            tokio::time::sleep(Duration::from_millis(1)).await;
            fail("words of\n  two lines").await;
        });
        pending::<()>().await;
    });
    assert_eq!(words, "words of two lines");
    on_a_ring(async |core| assert_eq!(core.arena.free(), core.arena.capacity(), "the next one is another"));
}

#[test]
fn whoever_waits_for_a_task_that_panics_learns_of_it_and_the_first_words_stay() {
    let words = said(async |_| {
        spawn(fail("the cause")).await.expect("the consequence");
    });
    assert_eq!(words, "the cause");
    let words = said(async |_| {
        assert!(spawn(fail("in passing")).await.is_err());
        pending::<()>().await;
    });
    assert_eq!(words, "in passing");
}

#[test]
fn a_root_and_what_a_task_leaves_may_panic_too() {
    assert_eq!(said(async |_| fail("the root").await), "the root");
    let words = said(async |_| {
        let squib = Squib;
        spawn(async move {
            let _squib = squib;
        });
        pending::<()>().await;
    });
    assert_eq!(words, "dropped");
    // Also where it is cancelled, before it has begun or after, and nobody asks what has become of it.
    for begins in [false, true] {
        let words = said(async |_| {
            let squib = Squib;
            let task = spawn(async move {
                let _squib = squib;
                pending::<()>().await;
            });
            if begins {
                tokio::task::yield_now().await;
            }
            task.abort();
            pending::<()>().await;
        });
        assert_eq!(words, "dropped");
    }
    assert_eq!(said::<()>(async |_| std::panic::panic_any(5)), "a panic without words");
}

#[test]
fn what_is_under_way_when_a_core_panics_holds_up_nothing() {
    let words = said(async |core| {
        let (socket, plain) = pair().await;
        let slab = core.arena.take().unwrap();
        let zeros = File::new(OwnedFd::from(std::fs::File::open("/dev/zero").unwrap()));
        let lease = slab.lease(0..BLOCK).unwrap();
        let reading = async move { zeros.read_exact(lease, BLOCK, 0).await.map(drop) };
        spawn(async move {
            let _plain = plain;
            tokio::join!(socket.readable(), reading, async {
                tokio::task::yield_now().await;
                fail("in their midst").await;
            })
        });
        pending::<()>().await;
    });
    assert_eq!(words, "in their midst");
}
