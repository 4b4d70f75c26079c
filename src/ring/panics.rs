//! A panic on a core, wherever it is: it is a bug of ours, and the end of the core.
//!
//! A task that panics is gone, and nobody waits for most of them: a core would go on without its clock or its listener, and
//! keep for ever what the task had begun. So the first panic is noted, and the core's root ends with it.

use super::counters::Alive;
use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

/// What the tasks of this thread tell its root.
#[derive(Default)]
struct Watch {
    /// The words of the first panic.
    said: Option<String>,
    root: Option<Waker>,
}

thread_local! {
    static WATCH: RefCell<Watch> = RefCell::default();
}

/// Notes a panic, and gives the words of the first one.
fn note(payload: &(dyn Any + Send)) -> String {
    let said = payload.downcast_ref::<&str>().copied();
    let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // One line, whatever it is part of.
    let words: Vec<&str> = said.unwrap_or("a panic without words").split_whitespace().collect();
    let (said, root) = WATCH.with_borrow_mut(|watch| {
        (watch.said.get_or_insert_with(|| words.join(" ")).clone(), watch.root.take())
    });
    if let Some(root) = root {
        root.wake();
    }
    said
}

/// A new core on this thread: nothing is known of one that was there before.
pub(super) fn forget() {
    WATCH.take();
}

/// Works, and gives the words of the first panic of this core if it ends by one.
pub(super) fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    // What a panic has left half done is dropped with the core, and looked at by nobody.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| note(&*payload))
}

/// A task whose panic is noted. It goes on as ever: whoever waits for the task learns of it too.
pub(super) struct Task<F> {
    work: ManuallyDrop<F>,
    /// Counts until the work has been dropped.
    _alive: Alive,
}

impl<F> Task<F> {
    pub(super) fn new(work: F) -> Self {
        Self { work: ManuallyDrop::new(work), _alive: Alive::task() }
    }
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    // Not an async block: that would hold the work twice, before and after it begins.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // SAFETY: the work is moved by nobody: it is reached through this pin alone, and dropped where it is.
        let work = unsafe { self.map_unchecked_mut(|task| &mut *task.work) };
        catch_unwind(AssertUnwindSafe(|| work.poll(cx))).unwrap_or_else(|payload| {
            note(&*payload);
            resume_unwind(payload)
        })
    }
}

impl<F> Drop for Task<F> {
    /// Of a task that is cancelled nobody hears what its end says.
    fn drop(&mut self) {
        // SAFETY: dropped once, here, and reached by nobody afterwards.
        let end = || unsafe { ManuallyDrop::drop(&mut self.work) };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(end)) {
            note(&*payload);
        }
    }
}

/// The root of a core, until it is done, or it or a task has panicked: then the words.
pub(super) async fn unless_panicked<T>(root: impl Future<Output = T>) -> Result<T, String> {
    let mut root = pin!(root);
    std::future::poll_fn(|cx| {
        let said = WATCH.with_borrow_mut(|watch| {
            watch.root = Some(cx.waker().clone());
            watch.said.clone()
        });
        match said.map_or_else(|| caught(|| root.as_mut().poll(cx)), Err) {
            Ok(polled) => polled.map(Ok),
            Err(said) => Poll::Ready(Err(said)),
        }
    })
    .await
}
