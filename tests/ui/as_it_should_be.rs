use std::{io, time::Duration};
use steadfast::{Error, timeout::TimeoutLayer};
use tower::{Layer, Service, ServiceExt, service_fn};

fn serve<S: Service<()>>(_service: S) {}

fn main() {
    let service = service_fn(async |_: ()| Ok::<_, io::Error>(())).map_err(Error::Service);
    let layer = TimeoutLayer::new(Duration::from_secs(1)).unwrap();
    serve(layer.layer(service));
}
