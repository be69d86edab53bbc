//! What a store of limits has to do: the suite that finds it out, stores that fail it, and a model of the buckets.

use steadfast::rate_limit::distributed::{Embedded, conformance};

#[tokio::test(start_paused = true)]
async fn the_embedded_store_passes_by_a_paused_clock() {
    conformance::check(&Embedded::new()).await.into_result().unwrap();
}

#[tokio::test]
async fn the_embedded_store_passes_by_a_real_clock() {
    conformance::check(&Embedded::new()).await.into_result().unwrap();
}
