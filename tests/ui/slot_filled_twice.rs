use std::time::Duration;
use steadfast::load_shed::Limiter;

fn main() {
    let _ = steadfast::client().timeout(Duration::from_secs(1)).timeout(Duration::from_secs(2));
    let _ = steadfast::server()
        .load_shed(Limiter::fixed(1).unwrap())
        .timeout(Duration::from_secs(1))
        .load_shed(Limiter::fixed(2).unwrap());
}
