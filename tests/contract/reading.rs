//! Handles can be read at any instant and from any place. Reading changes nothing, and waits for nothing.

use crate::{
    below::Below,
    controls::{Act, Controls},
    resources::{Resources, Spent},
    subject::{Make, PLACES, Subject},
    task::{Task, waker_that},
};
use std::{
    cell::RefCell,
    sync::mpsc,
    task::{Context, Poll},
    thread,
    time::Duration,
};
use tokio::{runtime, time::Instant};
use tower::Service;

/// How far ahead the test reads, in seconds. The longer times are beyond those for which mechanisms keep exact numbers.
const HORIZONS: [u64; 5] = [1, 3_600, 418 * 86_400, 5 * 366 * 86_400, 100 * 366 * 86_400];

pub async fn reading_at_any_instant_changes_nothing(make: Make) {
    let subject = Subject::tight(make).await;
    let below = Below::plain(Controls::new().act(Act::Wait));
    let mut call = Task::new(subject.around(&below).call(7));
    assert!(call.poll().is_pending());
    let before = subject.resources.held();
    for horizon in HORIZONS {
        subject.resources.read_at(Instant::now() + Duration::from_secs(horizon));
        assert_eq!(subject.resources.held(), before, "{horizon} s");
    }
    below.controls.answer();
    assert_eq!(call.poll(), Poll::Ready(Ok(7)));
    subject.assert_admits_what_is_left(Spent::reached(1).succeeded(1)).await;
}

thread_local! {
    static READ: RefCell<Option<Resources>> = const { RefCell::new(None) };
}

/// Reads all handles of the subject under test.
fn read() {
    READ.with_borrow(|resources| resources.as_ref().map(|resources| resources.read_at(Instant::now())));
}

static READ_ALL: fn() = read;

/// Runs the test on its own thread. A deadlock hangs that thread, and the time limit of the receiver fails the test.
pub async fn wakers_and_drops_may_read_every_handle(make: Make) {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let clock = runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        clock.block_on(async {
            let subject = Subject::tight(make).await;
            READ.set(Some(subject.resources.clone()));
            let below = Below::plain(Controls::new().act(Act::Wait));
            below.controls.when_dropped(read);
            let mut handle = subject.around(&below);
            let mut calls: Vec<_> = (0..PLACES + 3).map(|_| Box::pin(handle.call(7))).collect();
            for _ in 0..2 {
                calls.retain_mut(|call| {
                    let waker = waker_that(&READ_ALL);
                    call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
                });
            }
            // Drops the last call, which waits if the subject lets calls wait. Then the other calls end and free their
            // places.
            drop(calls.pop());
            below.controls.answer();
            for mut call in calls {
                let _ = call.as_mut().poll(&mut Context::from_waker(&waker_that(&READ_ALL)));
            }
            READ.set(None);
        });
        sender.send(()).unwrap();
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("a deadlock");
}
