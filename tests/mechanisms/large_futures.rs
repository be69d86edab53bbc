//! Large futures of a service: a call stores the service's future once, however many stages the stack has.

use crate::support::{ms, secs};
use std::{convert::Infallible, hint::black_box, mem::size_of_val, thread};
use steadfast::{
    CallContext, Error, Rejection,
    circuit_breaker::Breaker,
    load_shed::Limiter,
    rate_limit::TokenBucket,
    retry::Retry,
    shell::{Frame, Inherited},
};
use tower::{Service, ServiceExt, service_fn};

/// A service whose future holds this many bytes.
fn with_a_buffer<const BYTES: usize>() -> impl Service<usize, Response = u8, Error = Infallible> + Clone {
    service_fn(|at: usize| async move {
        let buffer = black_box([7; BYTES]);
        tokio::task::yield_now().await;
        Ok(buffer[at % BYTES])
    })
}

/// A client stack with all its layers.
fn client<S>(service: S) -> impl Service<usize, Response = S::Response>
where
    S: Service<usize, Error = Infallible> + Clone,
{
    steadfast::client()
        .timeout(secs(1))
        .retry(Retry::new(3))
        .circuit_breaker(Breaker::builder().build().unwrap())
        .rate_limit(TokenBucket::builder(100, secs(1)).build().unwrap())
        .load_shed(Limiter::fixed(10).unwrap())
        .attempt_timeout(ms(300))
        .service(service)
        .unwrap()
}

#[test]
fn a_large_future_passes_a_client_on_a_stack_of_two_mebibytes() {
    const LARGE: usize = 96 << 10;
    // The stack size of tokio's worker threads. An overflow ends the process.
    let thread = thread::Builder::new().stack_size(2 << 20).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { client(with_a_buffer::<LARGE>()).oneshot(5).await.ok() })
    });
    assert_eq!(thread.unwrap().join().unwrap(), Some(7));
}

#[test]
fn the_overhead_of_a_call_does_not_grow_with_the_services_future() {
    let small = size_of_val(&client(with_a_buffer::<1024>()).call(0));
    let large = size_of_val(&client(with_a_buffer::<2048>()).call(0));
    assert_eq!(large - small, 1024);
}

#[test]
fn the_state_of_a_call_is_small_and_made_of_whole_words() {
    let sizes = [size_of::<Rejection>(), size_of::<Error<u64>>(), size_of::<CallContext>(), size_of::<Inherited>()];
    assert_eq!(sizes, [48, 48, 24, 40]);
    assert_eq!(size_of::<Frame>(), 256);
    assert!([align_of::<Rejection>(), align_of::<CallContext>(), align_of::<Frame>()].iter().all(|align| *align == 8));
}
