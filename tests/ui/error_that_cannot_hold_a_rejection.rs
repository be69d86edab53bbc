use std::{io, time::Duration};
use steadfast::timeout::TimeoutLayer;
use tower::{Layer, Service, service_fn};

fn serve<S: Service<()>>(_service: S) {}

fn main() {
    let service = service_fn(async |_: ()| Ok::<_, io::Error>(()));
    let layer = TimeoutLayer::new(Duration::from_secs(1)).unwrap();
    serve(layer.layer(service));
}
