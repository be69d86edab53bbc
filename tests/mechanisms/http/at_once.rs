//! Several attempts that read one body at the same time: waiting, wake-ups, and the cap.

use super::scripted::{Read, Say, Script, Scripted, Woken, bodies, data, read, read_all, text, trailers};
use bytes::Bytes;
use http_body::{Body, SizeHint};
use http_body_util::BodyExt;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
};

#[tokio::test(start_paused = true)]
async fn the_newest_attempt_reads_beyond_the_cap_and_the_other_fails() {
    // The older attempt, `bodies[0]`, or the newest one reads first.
    for first in [0, 1] {
        let mut bodies = bodies(2, 3, Script::of([data("abc"), data("d"), data("e"), Say::End])).await;
        assert_eq!(read(&mut bodies[first], &Arc::default()), text("abc"));
        let expected = [Read::TooLarge, text("d")];
        assert_eq!(read(&mut bodies[first], &Arc::default()), expected[first]);
        let other = 1 - first;
        // No frames are kept once the newest attempt has read beyond the cap.
        if first == 0 {
            assert_eq!(read(&mut bodies[other], &Arc::default()), text("abc"));
        }
        assert_eq!(read(&mut bodies[other], &Arc::default()), expected[other]);
        assert_eq!(read(&mut bodies[0], &Arc::default()), Read::End);
        assert_eq!(read(&mut bodies[1], &Arc::default()), text("e"));
        assert_eq!(bodies[1].size_hint().lower(), SizeHint::default().lower());
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_attempt_reads_beyond_the_cap_after_the_newer_one_is_dropped() {
    let mut bodies = bodies(3, 3, Script::of([data("abc"), data("d"), Say::End])).await;
    for body in &mut bodies {
        assert_eq!(read(body, &Arc::default()), text("abc"));
    }
    assert_eq!(read(&mut bodies[1], &Arc::default()), Read::TooLarge);
    bodies.truncate(2);
    // The second has failed already.
    assert_eq!(read(&mut bodies[1], &Arc::default()), Read::End);
    assert_eq!(read(&mut bodies[0], &Arc::default()), text("d"));
    assert_eq!(read(&mut bodies[0], &Arc::default()), Read::End);
}

#[tokio::test(start_paused = true)]
async fn waiting_attempts_are_woken_once_for_each_frame_and_keep_no_waker() {
    let script = Script::default();
    let mut bodies = bodies(2, 100, script.clone()).await;
    let wakers: [Arc<Woken>; 2] = Default::default();
    for round in 0..5 {
        for (body, waker) in bodies.iter_mut().zip(&wakers) {
            // Several polls, as by a task that also waits for something else.
            for _ in 0..3 {
                assert_eq!(read(body, waker), Read::Pending);
            }
            assert_eq!(waker.times(), round);
        }
        script.say(data("a"));
        for (body, waker) in bodies.iter_mut().zip(&wakers) {
            assert_eq!(waker.times(), round + 1);
            assert_eq!(read(body, waker), text("a"));
        }
    }
    bodies.clear();
    for waker in wakers {
        assert_eq!(Arc::strong_count(&waker), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stalled_or_dropped_attempt_blocks_no_other() {
    let script = Script::default();
    let mut bodies = bodies(3, 100, script.clone()).await;
    let wakers: [Arc<Woken>; 3] = Default::default();
    for (body, waker) in bodies.iter_mut().zip(&wakers) {
        assert_eq!(read(body, waker), Read::Pending);
    }
    // The attempt that polled the script last is dropped. The first attempt is woken, too, and does not poll.
    bodies.truncate(2);
    script.say(data("a"));
    assert_eq!([wakers[0].times(), wakers[1].times()], [1, 1]);
    assert_eq!(read(&mut bodies[1], &wakers[1]), text("a"));
    assert_eq!(read(&mut bodies[1], &wakers[1]), Read::Pending);
    script.say(Say::End);
    assert_eq!(wakers[1].times(), 2);
    assert_eq!(read(&mut bodies[1], &wakers[1]), Read::End);
    assert_eq!(read_all(bodies.remove(0)), [text("a")]);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_polls_during_another_poll_is_woken_after_it() {
    for is_there in [false, true] {
        let script = Script::default();
        let mut bodies = bodies(2, 100, script.clone()).await;
        let (second, mut first) = (bodies.pop().unwrap(), bodies.pop().unwrap());
        let (woken, woken_first) = (Arc::<Woken>::default(), Arc::<Woken>::default());
        let (seen, waker) = (Arc::new(Mutex::new(None)), woken.clone());
        let (asked, second) = (seen.clone(), Arc::new(Mutex::new(second)));
        let asks = second.clone();
        if is_there {
            script.say(data("a"));
        }
        script.0.lock().unwrap().hook = Some(Box::new(move || {
            *asked.lock().unwrap() = Some(read(&mut *asks.lock().unwrap(), &waker));
        }));
        let expected = if is_there { text("a") } else { Read::Pending };
        assert_eq!(read(&mut first, &woken_first), expected);
        assert_eq!(*seen.lock().unwrap(), Some(Read::Pending));
        // The script may have woken its reader before the second attempt polled. So the second attempt is woken after
        // the poll of the first one, even if there is no frame.
        assert_eq!((woken_first.times(), woken.times()), (0, 1));
        assert_eq!(read(&mut *second.lock().unwrap(), &woken), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_body_fails_the_other_attempts_and_wakes_them() {
    let script = Script::of([data("a")]);
    let mut bodies = bodies(2, 100, script.clone()).await;
    let woken = Arc::<Woken>::default();
    assert_eq!(read(&mut bodies[0], &woken), text("a"));
    assert_eq!(read(&mut bodies[0], &woken), Read::Pending);
    script.0.lock().unwrap().says_next(Say::Panic);
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("a"));
    let panicked = catch_unwind(AssertUnwindSafe(|| read(&mut bodies[1], &Arc::default())));
    assert!(panicked.is_err());
    assert_eq!(woken.times(), 1);
    for body in &mut bodies {
        assert_eq!(read(body, &woken), Read::FailedElsewhere);
        assert_eq!(read(body, &woken), Read::End);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_on_several_threads_read_the_same_frames() {
    for _ in 0..50 {
        let script = Script::default();
        let bodies = bodies(3, 10_000, script.clone()).await;
        let readers: Vec<_> = bodies
            .into_iter()
            .map(|body| {
                thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let all = runtime.block_on(body.collect()).unwrap();
                    (all.trailers().cloned(), all.to_bytes())
                })
            })
            .collect();
        let frames: Vec<Vec<u8>> = (0..100).map(|byte| vec![byte; 3]).collect();
        for frame in &frames {
            script.say(Say::Data(frame.clone()));
        }
        script.say(Say::Trailers);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), (Some(trailers()), frames.concat().into()));
        }
    }
}

/// A waker that reads the size of a body when it is called or dropped. It would deadlock under a lock of the body.
struct Curious(Arc<Mutex<Scripted>>, AtomicUsize);

impl Curious {
    fn look(&self) {
        let _ = self.0.lock().unwrap().size_hint();
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Curious {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}

impl Drop for Curious {
    fn drop(&mut self) {
        self.look();
    }
}

/// A frame that reads the size of a body when it is dropped.
struct CuriousFrame(Arc<Mutex<Scripted>>);

impl AsRef<[u8]> for CuriousFrame {
    fn as_ref(&self) -> &[u8] {
        b"ab"
    }
}

impl Drop for CuriousFrame {
    fn drop(&mut self) {
        let _ = self.0.lock().unwrap().size_hint();
    }
}

#[tokio::test(start_paused = true)]
async fn no_user_code_runs_under_a_lock() {
    let script = Script::default();
    let mut bodies = bodies(3, 3, script.clone()).await;
    let watched = Arc::new(Mutex::new(bodies.remove(0)));
    let curious = || Arc::new(Curious(watched.clone(), AtomicUsize::new(0)));
    let pending = |body: &mut Scripted, curious: Arc<Curious>| {
        let waker = Waker::from(curious);
        assert!(Pin::new(body).poll_frame(&mut Context::from_waker(&waker)).is_pending());
    };
    let (first, second) = (curious(), curious());
    pending(&mut bodies[0], first.clone());
    // The script wakes `first`.
    script.say(Say::Frame(Bytes::from_owner(CuriousFrame(watched.clone()))));
    assert_eq!(first.1.load(Ordering::Relaxed), 1);
    assert_eq!(read(&mut bodies[0], &Arc::default()), text("ab"));
    pending(&mut bodies[0], first.clone());
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("ab"));
    // Each new waker replaces the last one of its attempt, which is dropped.
    pending(&mut bodies[0], curious());
    pending(&mut bodies[0], second.clone());
    pending(&mut bodies[1], curious());
    // Reading beyond the cap drops all kept frames.
    script.say(data("cd"));
    assert_eq!(second.1.load(Ordering::Relaxed), 1);
    assert_eq!(read(&mut bodies[1], &Arc::default()), text("cd"));
    assert_eq!(read(&mut bodies[0], &Arc::default()), Read::TooLarge);
    pending(&mut bodies[1], curious());
    bodies.clear();
}
