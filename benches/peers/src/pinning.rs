//! Assigns a core to each thread.

use core_affinity::CoreId;
use std::sync::OnceLock;

/// Pins this thread to the core with this index, counted from the first that the process may use.
pub fn pin(index: usize) {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    // Read once, because a thread that is already pinned sees only its own core.
    let cores = CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default());
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}
