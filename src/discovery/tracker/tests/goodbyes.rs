//! What trackers hear when a torrent ends.

use super::driver::{start, tracker};
use super::{response, stub};
use crate::discovery::tracker::{Event, Note};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;

#[tokio::test]
async fn completion_and_the_end_at_once_are_both_told() {
    let url = tracker(1000).await;
    let mut torrent = start(1001, 10, &[&url]);
    torrent.announced().await;
    torrent.totals.left.store(0, Ordering::Relaxed);
    torrent.announcing.completed();
    torrent.announcing.stop().await;
    for (event, seeds) in [(Event::Completed, 1), (Event::Stopped, 0)] {
        let Some(Note::Announced { event: Some(told), complete, .. }) = torrent.notes.recv().await else {
            panic!("{event:?} is missing")
        };
        assert_eq!((told, complete), (event, Some(seeds)));
    }
}

#[tokio::test]
async fn who_leaves_while_the_tracker_still_answers_says_goodbye() {
    let (heard, mut events) = mpsc::channel(4);
    let slow = stub(move |head, mut stream| {
        let heard = heard.clone();
        async move {
            heard.send(head.contains("event=stopped")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
        }
    })
    .await;
    let torrent = start(1001, 0, &[&slow]);
    assert_eq!(events.recv().await, Some(false));
    torrent.announcing.stop().await;
    assert_eq!(events.recv().await, Some(true));
}

/// A tracker that says which events it hears, and answers each after so long; `None`: never.
async fn slow(
    wait: impl Fn(&str) -> Option<Duration> + Send + Sync + 'static,
) -> (String, mpsc::Receiver<String>) {
    let (heard, events) = mpsc::channel(8);
    let wait = Arc::new(wait);
    let url = stub(move |head, mut stream| {
        let (heard, wait) = (heard.clone(), Arc::clone(&wait));
        async move {
            let event = head.split(['?', '&', ' ']).find(|part| part.starts_with("event=")).unwrap();
            heard.send(event.to_owned()).await.unwrap();
            match wait(event) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
            stream.write_all(&response("200 OK", b"d8:intervali900ee")).await.unwrap();
        }
    })
    .await;
    (url, events)
}

#[tokio::test]
async fn a_tracker_that_keeps_us_waiting_hears_the_goodbye_all_the_same() {
    // One that has taken us in and does not come to say so; and one that does not to what comes before the goodbye, as when one
    // of its families is silent.
    for silent_at in ["event=started", "event=completed"] {
        let (url, mut events) = slow(move |event| (event != silent_at).then_some(Duration::ZERO)).await;
        let mut torrent = start(1001, 10, &[&url]);
        assert_eq!(events.recv().await.unwrap(), "event=started");
        if silent_at == "event=completed" {
            torrent.announced().await;
            torrent.totals.left.store(0, Ordering::Relaxed);
            torrent.announcing.completed();
            assert_eq!(events.recv().await.unwrap(), silent_at);
        }
        torrent.announcing.stop().await;
        // What nobody has confirmed is told again.
        if silent_at == "event=completed" {
            assert_eq!(events.recv().await.unwrap(), silent_at);
        }
        assert_eq!(events.recv().await.unwrap(), "event=stopped");
    }
}

#[tokio::test]
async fn a_tracker_that_is_only_slow_counts_one_completion() {
    let wait = |event: &str| Duration::from_millis(if event == "event=completed" { 1500 } else { 0 });
    let (url, mut events) = slow(move |event| Some(wait(event))).await;
    let mut torrent = start(1001, 10, &[&url]);
    torrent.announced().await;
    assert_eq!(events.recv().await.unwrap(), "event=started");
    torrent.announcing.completed();
    assert_eq!(events.recv().await.unwrap(), "event=completed");
    torrent.announcing.stop().await;
    assert_eq!(events.recv().await.unwrap(), "event=stopped");
}
