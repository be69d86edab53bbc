//! The faults.

use super::{
    scene::{Load, Scene, run},
    verdict::{Expected, check},
};
use crate::trial::trials;
use std::time::Duration;
use tokio::time::sleep;

trials![
    nothing_happens,
    workers_are_killed_in_the_middle_of_their_work,
    the_server_is_killed_in_the_middle_of_appends,
    the_server_is_stopped_for_longer_than_the_takeover_time,
    producers_are_cut_off,
    workers_are_cut_off,
    a_black_hole_is_between_producers_and_the_server,
    a_black_hole_is_between_a_worker_and_the_server,
    the_server_is_read_only_for_a_while,
    the_server_is_out_of_memory_for_a_while,
    all_faults_happen_to_a_hundred_thousand_messages,
];

const SMALL: Load = Load { messages: 4000, per_second: 2500, appendfsync: None };
/// Without a wait for the disk, since a busy disk would make it take minutes.
const LARGE: Load = Load { messages: 100_000, per_second: 5000, appendfsync: Some("no") };

/// Longer than the answer timeout.
const SHORT: Duration = Duration::from_millis(800);
/// Longer than the takeover time as well.
const LONG: Duration = Duration::from_millis(1500);

async fn pause() {
    sleep(Duration::from_millis(500)).await;
}

async fn nothing_happens() {
    check("calm", run(SMALL, async |_: &mut Scene| {}).await, Expected { is_calm: true, ..Expected::default() });
}

async fn workers_are_killed_in_the_middle_of_their_work() {
    let happens = async |scene: &mut Scene| {
        for place in [0, 1, 2, 0] {
            scene.kill_a_worker(place);
            sleep(Duration::from_millis(250)).await;
        }
    };
    check("workers killed", run(SMALL, happens).await, Expected { takes_over: true, ..Expected::default() });
}

async fn the_server_is_killed_in_the_middle_of_appends() {
    let happens = async |scene: &mut Scene| {
        scene.kill_the_server().await;
        sleep(Duration::from_millis(250)).await;
        scene.kill_the_server().await;
    };
    check(
        "server killed",
        run(Load { appendfsync: Some("always"), ..SMALL }, happens).await,
        Expected { resends: true, ..Expected::default() },
    );
}

async fn the_server_is_stopped_for_longer_than_the_takeover_time() {
    let run = run(SMALL, async |scene: &mut Scene| scene.stop_the_server(LONG).await).await;
    check("server stopped", run, Expected { resends: true, finds_duplicates: true, ..Expected::default() });
}

async fn producers_are_cut_off() {
    let run = run(SMALL, async |scene: &mut Scene| scene.cut_producers().await).await;
    check("producers cut", run, Expected { resends: true, ..Expected::default() });
}

async fn workers_are_cut_off() {
    check("workers cut", run(SMALL, async |scene: &mut Scene| scene.cut_workers().await).await, Expected::default());
}

async fn a_black_hole_is_between_producers_and_the_server() {
    let run = run(SMALL, async |scene: &mut Scene| scene.black_hole_for_producers(SHORT).await).await;
    check("producers in a black hole", run, Expected { resends: true, ..Expected::default() });
}

async fn a_black_hole_is_between_a_worker_and_the_server() {
    // More messages than the workers can process: the worker has messages whenever the fault begins.
    let load = Load { messages: 8000, per_second: 16_000, ..SMALL };
    let run = run(load, async |scene: &mut Scene| scene.black_hole_for_workers(2 * LONG).await).await;
    check("worker in a black hole", run, Expected { takes_over: true, ..Expected::default() });
}

async fn the_server_is_read_only_for_a_while() {
    let run = run(SMALL, async |scene: &mut Scene| scene.read_only(SHORT).await).await;
    check("read-only", run, Expected { resends: true, ..Expected::default() });
}

async fn the_server_is_out_of_memory_for_a_while() {
    let run = run(SMALL, async |scene: &mut Scene| scene.out_of_memory(SHORT).await).await;
    check("out of memory", run, Expected { resends: true, ..Expected::default() });
}

async fn all_faults_happen_to_a_hundred_thousand_messages() {
    let happens = async |scene: &mut Scene| {
        for place in 0..3 {
            scene.kill_a_worker(place);
            pause().await;
            match place {
                0 => scene.stop_the_server(LONG).await,
                1 => scene.cut_producers().await,
                _ => scene.cut_workers().await,
            }
            pause().await;
            scene.kill_the_server().await;
            pause().await;
        }
        scene.black_hole_for_producers(SHORT).await;
        pause().await;
        scene.black_hole_for_workers(2 * LONG).await;
        pause().await;
        scene.kill_a_worker(0);
        scene.read_only(SHORT).await;
        pause().await;
        scene.kill_a_worker(1);
        scene.out_of_memory(SHORT).await;
        pause().await;
        // Two faults at once.
        scene.kill_a_worker(2);
        scene.kill_the_server().await;
    };
    let expected = Expected { resends: true, finds_duplicates: true, takes_over: true, is_calm: false };
    check("all of it", run(LARGE, happens).await, expected);
}
